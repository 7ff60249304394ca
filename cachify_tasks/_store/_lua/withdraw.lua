-- withdraw: revoked, or found expired when its turn came; or a waiter leaves. A run goes on; nothing starts any more.
-- KEYS 7 done
-- ARGV 3 holder, 4 start_ms, 5 tomb_ms, 6 flags
-- reply: withdrawn, with the heirs that it reserved for
local DONE = KEYS[7]
local holder, start_ms, life, starts = ARGV[3], ARGV[4], ARGV[5], ARGV[6] == 's'
make_rest()
local last = remembered(DONE)
if last.final then -- sent again, or it has left already
  return answer('withdrawn', 0, call('ZCARD', SLOTS), 0, waiting(last.heirs))
end
if record and unpacked(record).request_id == '' then drop_slot(holder) end
call('ZREM', QUEUE, holder)
drop_ticket(holder)
local held, heirs = settle(start_ms, starts)
bury(DONE, life, 'withdrawn', 0, heirs, true)
keep(held)
return answer('withdrawn', 0, held, 0, heirs)
