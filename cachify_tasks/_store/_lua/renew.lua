-- renew: put a slot's deadline off, also one that has just passed and that no script has noticed; never re-create.
-- ARGV 3 holder, 4 token, 5 lease_ms, 6 acked
-- reply: renewed token | lost token
local holder, token, lease, acked = ARGV[3], ARGV[4], tonumber(ARGV[5]) * 1000, ARGV[6] == '1'
make_rest()
local slot = record and unpacked(record)
local status, deadline = 'lost', nil
if slot and slot.token == token and (slot.hard == 0 or now < slot.hard) then
  status = 'renewed'
  deadline = now + lease
  if slot.hard > 0 then deadline = math.min(deadline, slot.hard) end
  call('ZADD', SLOTS, 'XX', deadline, holder)
  if acked then drop_ticket(holder) end
end
local held = call('ZCARD', SLOTS)
keep(held, deadline, true)
return answer(status, token, held, 0)
