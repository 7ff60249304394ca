-- renew: extend a lease, also one that has just expired and that no script has noticed. It never re-creates a slot.
-- ARGV 3 holder, 4 token, 5 lease_ms, 6 started
-- reply: renewed token | lost token
local holder = ARGV[3]
-- include records
-- include pool
local token, lease_ms, started = ARGV[4], ARGV[5], ARGV[6] == '1'

-- include tickets
local status, heirs = 'lost', nil
if record then
  local slot_token, _, _, hard_limit = string.match(record, SLOT_PATTERN)
  if slot_token == token and (hard_limit == '0' or now < hard_limit + 0) then
    status = 'renewed'
    deadline = now + lease_ms * 1000
    if hard_limit ~= '0' then deadline = math.min(deadline, hard_limit) end
    index_lease = true
    call('ZADD', SLOTS, 'XX', deadline, holder)
    if started and tickets then drop_ticket(holder) end
  end
end
local held = call('ZCARD', SLOTS)
-- include keep
return answer(status, token, held)
