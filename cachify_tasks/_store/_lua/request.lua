-- request: the beginning of the three scripts that ask for a slot.
-- KEYS 8 tombstone
-- ARGV 4 request_id, 5 limit, 6 lease_ms, 7 start_ms, 8 slot_exp_ms, 9 label, 10 by_worker
local TOMBSTONE = KEYS[8]
local request_id, requested_limit = ARGV[4], ARGV[5]
local lease_ms, start_ms, slot_exp_ms, label = ARGV[6], ARGV[7], ARGV[8], ARGV[9]

local by_worker = ARGV[10] == '1'

-- A worker's limit counts: a direct call's does not replace it for as long as the pool's state lives.
local previous_limit, from_worker = '0', state[6] == 'worker'
if requested_limit ~= '0' and given_limit ~= requested_limit then
  previous_limit = given_limit
  if by_worker or not from_worker then
    given_limit, changed = requested_limit, true
    limit = tonumber(override or given_limit)
  end
end
if by_worker and not from_worker and requested_limit ~= '0' then call('HSET', STATE, 'limit_from', 'worker') end
asker = holder
local held = call('ZCARD', SLOTS)
