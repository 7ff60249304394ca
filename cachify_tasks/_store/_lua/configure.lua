-- configure: set the limit at run time. Raised, it is filled, or the next settle fills; lowered, it drains; 0 pauses.
-- ARGV 3 limit (empty: back to the one that acquires give), 4 start_ms, 5 flags
-- reply: configured, with the heirs that it reserved for
local asked, start_ms, starts = ARGV[3], ARGV[4], ARGV[5] == 's'
if asked == '' then
  call('HDEL', STATE, 'override')
  override = nil
else
  call('HSET', STATE, 'override', asked)
  override = tonumber(asked)
end
limit = override or given
if not tickets then live_until(math.max(lives, math.ceil(now / 1000) + MARGIN)) end
local held, heirs = settle(start_ms, starts)
keep(held)
return answer('configured', 0, held, 0, heirs)
