-- ping: does the store answer, and does it speak this client's version? The first client writes down which one it is.
-- KEYS 1 schema
-- ARGV 1 version, 2 ttl_ms
-- reply: the version that is written down
local SCHEMA = KEYS[1]
local version, ttl_ms = ARGV[1], ARGV[2]

local found = redis.call('GET', SCHEMA)
if not found or found == version then
  redis.pcall('SET', SCHEMA, version, 'PX', ttl_ms) -- pcall: the server's memory may be full
  return version
end
return found
