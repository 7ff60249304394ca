-- snapshot: all of a pool at one moment, but for its envelopes and tombstones. Writes nothing.
-- KEYS 1 slots, 2 state, 3 queue, 4 tickets, 5 waiting, 6 leased
-- ARGV 1 now (µs; empty: the server's clock), 2 pool
-- reply: now, types of the keys, their lives in ms (-1: for ever, -2: no such key), slots, state, queue, names of the
-- tickets, the pool's score in waiting and leased (empty: it is not there). What is of another type is left out.
local POOL, call = ARGV[2], redis.call
local now = ARGV[1]
if now == '' then
  local clock = call('TIME')
  now = string.format('%.17g', clock[1] * 1000000 + clock[2])
end
local types, lives = {}, {}
for i, key in ipairs(KEYS) do
  types[i], lives[i] = call('TYPE', key).ok, call('PTTL', key)
end
local function read(i, kind, ...)
  return types[i] == kind and call(...) or {}
end
local function score(i)
  return types[i] == 'zset' and call('ZSCORE', KEYS[i], POOL) or ''
end
return {
  now, types, lives,
  read(1, 'zset', 'ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'),
  read(2, 'hash', 'HGETALL', KEYS[2]),
  read(3, 'zset', 'ZRANGE', KEYS[3], 0, -1, 'WITHSCORES'),
  read(4, 'hash', 'HKEYS', KEYS[4]),
  score(5), score(6),
}
