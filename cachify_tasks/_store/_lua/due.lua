-- due: the pools of one index in which a reaper has something to do now. Writes nothing.
-- KEYS 1 waiting
-- ARGV 1 now (µs; empty: the server's clock)
-- reply: names of pools
local WAITING, now = KEYS[1], ARGV[1]

if now == '' then
  local clock = redis.call('TIME')
  now = string.format('%.0f', clock[1] * 1000000 + clock[2])
end
return redis.call('ZRANGEBYSCORE', WAITING, '-inf', now)
