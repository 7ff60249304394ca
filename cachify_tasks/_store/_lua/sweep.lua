-- sweep: forget expired leases, and reserve free slots for the oldest tickets. Any worker may do it at any time.
-- ARGV 3 start_ms, 4 can_start_heirs
-- reply: swept, with the heirs that it reserved slots for
local holder = ''
-- include records
-- include pool
local start_ms, can_start_heirs = ARGV[3], ARGV[4] == '1'

-- include tickets
-- Tickets that were put aside go back to their places, and get the next slots.
for _, back in ipairs(tickets and call('ZRANGEBYSCORE', QUEUE, ASIDE, text(ASIDE + now)) or {}) do
  local found = call('HGET', TICKETS, TICKET .. back)
  if found then call('ZADD', QUEUE, select(3, string.match(found, TICKET_PATTERN)), back) end
end
ticket_dropped = true -- look whether there are tickets: a server that evicts keys may have lost them
local held = call('ZCARD', SLOTS)
-- include settle
-- include keep
return answer('swept', '0', held, heirs)
