-- find: the tickets of some tasks. Writes nothing.
-- ARGV 3 tasks: their ids, one an argument
-- reply: of each that has a ticket: holder, envelope, 1 if it waits for a slot or its start, else 0, kind
local holder = ''
-- include records
-- include pool
local names, found = {}, {}
for i = 3, #ARGV do names[#names + 1] = TASK .. ARGV[i] end
for _, holder in ipairs(names[1] and call('HMGET', TICKETS, unpack(names)) or {}) do
  local ticket = holder and call('HMGET', TICKETS, TICKET .. holder, ENVELOPE .. holder)
  if ticket and ticket[1] then
    local slot, request_id = call('HGET', STATE, SLOT .. holder), ''
    if slot then request_id = select(2, string.match(slot, SLOT_PATTERN)) end
    local n = #found
    found[n + 1], found[n + 2] = holder, ticket[2] or ''
    found[n + 3], found[n + 4] = request_id == '' and 1 or 0, (string.match(ticket[1], TICKET_PATTERN))
  end
end
return found
