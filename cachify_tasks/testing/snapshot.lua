-- snapshot: all of a pool at one moment, except its envelopes and tombstones. Writes nothing.
-- KEYS 1 slots, 2 state, 3 queue, 4 tickets, 5 waiting, 6 leased
-- ARGV 1 now (µs; empty: the server's clock), 2 pool, 3 envelope: how the fields of envelopes begin
-- reply: now, types of the keys, their TTLs in ms (-1: none, -2: no such key), slots, state, queue, tickets (the fields
-- of envelopes with an empty value), the pool's score in waiting and leased (empty: it is not there). A key of a wrong
-- type is left out.
local now, POOL, ENVELOPE = ARGV[1], ARGV[2], ARGV[3]
local call = redis.call
if now == '' then
  local clock = call('TIME')
  now = string.format('%.17g', clock[1] * 1000000 + clock[2])
end
local types, ttls = {}, {}
for i, key in ipairs(KEYS) do
  types[i], ttls[i] = call('TYPE', key).ok, call('PTTL', key)
end
local function read(i, kind, ...)
  return types[i] == kind and call(...) or {}
end
local function score(i)
  return types[i] == 'zset' and call('ZSCORE', KEYS[i], POOL) or ''
end
local tickets = {}
for _, field in ipairs(read(4, 'hash', 'HKEYS', KEYS[4])) do
  tickets[#tickets + 1] = field
  tickets[#tickets + 1] = string.sub(field, 1, #ENVELOPE) == ENVELOPE and '' or call('HGET', KEYS[4], field)
end
return {
  now, types, ttls,
  read(1, 'zset', 'ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'),
  read(2, 'hash', 'HGETALL', KEYS[2]),
  read(3, 'zset', 'ZRANGE', KEYS[3], 0, -1, 'WITHSCORES'),
  tickets,
  score(5), score(6),
}
