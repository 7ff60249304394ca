-- What the pool scripts share; put in front of each of them.
-- KEYS 1 slots, 2 holders, 3 queue, 4 tickets, 5 meta, 6 waiting, 7 leased; 8 done, where a script is about one holder.
-- ARGV 1 now (µs; empty: the server's clock), 2 pool.
-- Times are µs. A number goes back to Redis through %.17g: it keeps the half that marks a ticket that has come back.
local SLOTS, HOLDERS, QUEUE, TICKETS, META, WAITING, LEASED = unpack(KEYS, 1, 7)
local POOL = ARGV[2]
local BATCH = 64 -- heirs that one script reserves for at most
local MARGIN = 86400000 -- ms that keys outlive the last deadline in them
local call = redis.call

local now = tonumber(ARGV[1])
if not now then
  local clock = call('TIME')
  now = clock[1] * 1000000 + clock[2]
end

local function text(number) return string.format('%.17g', number) end

-- A holder's record: token|place|rid|hard|since|label. No rid: reserved, not started.
local function unpacked(record)
  local token, place, rid, hard, since, label = string.match(record, '^(%d+)|([%d.]+)|([^|]*)|(%d+)|(%d+)|(.*)$')
  return { token = token, place = place, rid = rid, hard = tonumber(hard), since = since, label = label }
end

local function packed(slot)
  return table.concat({ slot.token, slot.place, slot.rid, slot.hard, slot.since, slot.label }, '|')
end

-- The counter and the limit in force; both are written back by `keep`.
local meta
local function load_meta()
  if not meta then
    local row = call('HMGET', META, 'counter', 'limit', 'override')
    meta = { counter = tonumber(row[1]) or 0, given = tonumber(row[2]) or 0, override = tonumber(row[3]) }
    meta.limit = meta.override or meta.given
  end
  return meta
end

-- Places and fencing tokens. The clock makes them grow even when the store has forgotten the counter.
local function draw()
  local m = load_meta()
  m.counter = math.max(m.counter + 1, now)
  m.drawn = true
  return m.counter
end

-- A ticket keeps its place once; then it goes to the tail, so that one that nobody can start does not block the rest.
local function back(holder, place)
  place = tonumber(place)
  if place % 1 ~= 0 then place = draw() end
  call('ZADD', QUEUE, text(place + 0.5), holder)
end

local function drop_slot(holder)
  call('ZREM', SLOTS, holder)
  call('HDEL', HOLDERS, holder)
end

-- Forget expired slots; those whose envelope is here return to the queue.
local function expire()
  local gone = call('ZRANGEBYSCORE', SLOTS, '-inf', '(' .. text(now))
  for _, holder in ipairs(gone) do
    local record = call('HGET', HOLDERS, holder)
    drop_slot(holder)
    if record and call('HEXISTS', TICKETS, holder) == 1 then back(holder, unpacked(record).place) end
  end
end

-- Reserve free slots for the oldest tickets; answer {holder, token, ...}.
local function reserve(start)
  local heirs = {}
  if call('ZCARD', QUEUE) == 0 then return heirs end
  local free = math.min(load_meta().limit - call('ZCARD', SLOTS), BATCH)
  if free < 1 then return heirs end
  local oldest = call('ZRANGE', QUEUE, 0, free - 1, 'WITHSCORES')
  for i = 1, #oldest, 2 do
    local holder, token = oldest[i], text(draw())
    local slot = { token = token, place = oldest[i + 1], rid = '', hard = 0, since = text(now), label = '' }
    call('ZREM', QUEUE, holder)
    call('ZADD', SLOTS, text(now + start), holder)
    call('HSET', HOLDERS, holder, packed(slot))
    heirs[#heirs + 1] = holder
    heirs[#heirs + 1] = token
  end
  return heirs
end

-- Ends a script that may have changed a pool: keep the counter, the indexes and the keys' lives true; answer how many
-- slots are taken.
local function keep()
  local held = call('ZCARD', SLOTS)
  local last = 0
  if held > 0 then
    last = tonumber(call('ZRANGE', SLOTS, -1, -1, 'WITHSCORES')[2])
    call('ZADD', LEASED, text(last), POOL)
    call('PEXPIRE', LEASED, 7 * MARGIN)
  else
    call('ZREM', LEASED, POOL)
  end
  if meta and (meta.drawn or meta.changed) then
    call('HSET', META, 'counter', text(meta.counter), 'limit', text(meta.given))
  end
  local ttl = math.max(math.ceil((last - now) / 1000), 0) + MARGIN
  if call('EXISTS', TICKETS) == 1 then
    local due = now
    if call('ZCARD', QUEUE) == 0 or held >= load_meta().limit then
      due = held > 0 and tonumber(call('ZRANGE', SLOTS, 0, 0, 'WITHSCORES')[2]) or now + MARGIN * 1000
    end
    call('ZADD', WAITING, text(due), POOL)
    call('PERSIST', SLOTS)
    call('PERSIST', HOLDERS)
    call('PERSIST', META)
  else
    call('ZREM', WAITING, POOL)
    if held > 0 then
      call('PEXPIRE', SLOTS, ttl)
      call('PEXPIRE', HOLDERS, ttl)
    end
    if load_meta().override then call('PERSIST', META) else call('PEXPIRE', META, ttl) end
  end
  return held
end

-- Name only heirs that still wait for their start.
local function waiting(heirs)
  local still = {}
  for i = 1, #heirs, 2 do
    local record = call('HGET', HOLDERS, heirs[i])
    if record then
      local slot = unpacked(record)
      if slot.rid == '' and slot.token == heirs[i + 1] then
        still[#still + 1] = heirs[i]
        still[#still + 1] = heirs[i + 1]
      end
    end
  end
  return still
end

-- A status line "status token held limit was"; with heirs, the first of a list {line, holder, token, ...}.
local function answer(status, token, held, was, heirs)
  local line = table.concat({ status, token, held, text(load_meta().limit), was }, ' ')
  if heirs and #heirs > 0 then return { line, unpack(heirs) } end
  return redis.status_reply(line)
end

-- Tombstones: "final|token|status|heirs as JSON".
local function remembered(key)
  local value = call('GET', key)
  if not value then return { final = false, token = '', status = '', heirs = {} } end
  local final, token, status, heirs = string.match(value, '^(%d)|(%d*)|(%a*)|(.*)$')
  return { final = final == '1', token = token, status = status, heirs = heirs == '' and {} or cjson.decode(heirs) }
end

local function bury(key, life, status, token, heirs, final)
  local list = #heirs > 0 and cjson.encode(heirs) or ''
  call('SET', key, (final and '1' or '0') .. '|' .. token .. '|' .. status .. '|' .. list, 'PX', life)
end
