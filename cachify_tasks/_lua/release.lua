-- release: a run has ended. Free its slot if it is still its own, and reserve what is free for the oldest tickets.
-- KEYS 8 done
-- ARGV 3 holder, 4 token, 5 rid, 6 start_ms, 7 tomb_ms, 8 flags
-- reply: released token | lost token, with the heirs that it reserved for
local DONE = KEYS[8]
local holder, token, rid, start, life, flags = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]) * 1000, ARGV[7], ARGV[8]
local again, starts = string.find(flags, 'a', 1, true) ~= nil, string.find(flags, 's', 1, true) ~= nil

local record = call('HGET', HOLDERS, holder)
local slot = record and unpacked(record)
local last = remembered(DONE)
again = again and not last.final -- final already: revoked while it ran
local owns = slot and slot.rid ~= '' and (slot.token == token or (token == '0' and slot.rid == rid))
local status = 'released'
if owns then
  token = slot.token
  drop_slot(holder)
  if not again then
    call('HDEL', TICKETS, holder)
  elseif call('HEXISTS', TICKETS, holder) == 1 then
    back(holder, slot.place)
  end
elseif last.token == token and last.status ~= '' then -- sent again
  return answer(last.status, token, keep(), 0, waiting(last.heirs))
elseif again or last.final or (slot and slot.rid ~= '') then -- another run has it
  return answer('lost', token, keep(), 0)
else -- the lease was lost, yet the run reached its end and no second one has started: none shall
  status = 'lost'
  if slot then drop_slot(holder) end
  call('ZREM', QUEUE, holder)
  call('HDEL', TICKETS, holder)
end
expire()
local heirs = starts and reserve(start) or {}
bury(DONE, life, status, token, heirs, not again)
return answer(status, token, keep(), 0, waiting(heirs))
