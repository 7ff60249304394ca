-- find: the tickets of some tasks. Writes nothing.
-- ARGV 3 tasks, one an argument
-- reply: of each that has one: holder, envelope, whether it waits for a slot or its start (1 or 0)
make_rest()
local fields, found = {}, {}
for i = 3, #ARGV do fields[#fields + 1] = '@' .. ARGV[i] end
for _, holder in ipairs(fields[1] and call('HMGET', STATE, unpack(fields)) or {}) do
  if holder then
    local slot, n = record_of(holder), #found
    found[n + 1], found[n + 2] = holder, call('HGET', TICKETS, holder)
    found[n + 3] = slot and slot.request_id ~= '' and 0 or 1
  end
end
return found
