-- find: the ticket of a task. Writes nothing.
-- ARGV 3 task
-- reply: {holder, envelope, whether it waits for a slot or its start (1 or 0)}, or nil
local holder = call('HGET', STATE, '@' .. ARGV[3])
if not holder then return false end
make_rest()
local slot = record_of(holder)
return { holder, call('HGET', TICKETS, holder), slot and slot.rid ~= '' and 0 or 1 }
