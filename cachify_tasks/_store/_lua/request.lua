-- request: the beginning of the three scripts that ask for a slot.
-- KEYS 7 tombstone
-- ARGV 4 request_id, 5 limit, 6 lease_ms, 7 start_ms, 8 slot_exp_ms, 9 label
local TOMBSTONE = KEYS[7]
local request_id, requested_limit = ARGV[4], ARGV[5]
local lease_ms, start_ms, slot_exp_ms, label = ARGV[6], ARGV[7], ARGV[8], ARGV[9]

local previous_limit = '0'
if requested_limit ~= '0' and given_limit ~= requested_limit then
  previous_limit, given_limit, changed = given_limit, requested_limit, true
  limit = tonumber(override or given_limit)
end
asker = holder
local held = call('ZCARD', SLOTS)
