-- withdraw: revoked, or found expired when its turn came. A run goes on; nothing starts any more.
-- KEYS 8 done
-- ARGV 3 holder, 4 start_ms, 5 tomb_ms, 6 flags
-- reply: withdrawn, with the heirs that it reserved for
local DONE = KEYS[8]
local holder, start, life, starts = ARGV[3], tonumber(ARGV[4]) * 1000, ARGV[5], ARGV[6] == 's'
local last = remembered(DONE)
if last.final then -- sent again, or it has left already
  return answer('withdrawn', 0, keep(), 0, waiting(last.heirs))
end
local record = call('HGET', HOLDERS, holder)
if record and unpacked(record).rid == '' then drop_slot(holder) end
call('ZREM', QUEUE, holder)
call('HDEL', TICKETS, holder)
expire()
local heirs = starts and reserve(start) or {}
bury(DONE, life, 'withdrawn', 0, heirs, true)
return answer('withdrawn', 0, keep(), 0, waiting(heirs))
