-- configure: override the limit at run time. A raised limit is filled, a lowered one drains, 0 pauses the pool.
-- ARGV 3 limit (empty: back to the one that acquires give), 4 start_ms, 5 can_start_heirs
-- reply: configured, with the heirs that it reserved slots for
local holder = ''
-- include records
-- include pool
local new_limit, start_ms, can_start_heirs = ARGV[3], ARGV[4], ARGV[5] == '1'

-- include tickets
if new_limit == '' then
  call('HDEL', STATE, 'override')
  override = false
else
  call('HSET', STATE, 'override', new_limit)
  override = new_limit
end
limit = tonumber(override or given_limit)
if not tickets then new_keep_until = math.max(keep_until, math.ceil(now / 1000) + MARGIN) end
local held = call('ZCARD', SLOTS)
-- include settle
-- include keep
return answer('configured', '0', held, heirs)
