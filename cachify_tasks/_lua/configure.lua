-- configure: set the limit at run time. Raised, the next settle fills; lowered, it drains; 0 pauses.
-- ARGV 3 limit (empty: back to the one that acquires give)
-- reply: configured
load_meta()
local limit = ARGV[3]
if limit == '' then
  call('HDEL', META, 'override')
  meta.override = nil
else
  call('HSET', META, 'override', limit)
  meta.override = tonumber(limit)
end
meta.limit = meta.override or meta.given
return answer('configured', 0, keep(), 0)
