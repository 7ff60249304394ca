-- configure: set the limit at run time. Raised, the next settle fills; lowered, it drains; 0 pauses.
-- ARGV 3 limit (empty: back to the one that acquires give)
-- reply: configured
if ARGV[3] == '' then
  call('HDEL', STATE, 'override')
  override = nil
else
  call('HSET', STATE, 'override', ARGV[3])
  override = tonumber(ARGV[3])
end
limit = override or given
if not tickets then live_until(math.max(lives, math.ceil(now / 1000) + MARGIN)) end
local held = call('ZCARD', SLOTS)
keep(held)
return answer('configured', 0, held, 0)
