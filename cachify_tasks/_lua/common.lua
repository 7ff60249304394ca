-- What the pool scripts share; put in front of each of them.
-- KEYS 1 slots, 2 state, 3 queue, 4 tickets, 5 waiting, 6 leased; 7 done, where a script is about one holder.
-- ARGV 1 now (µs; empty: the server's clock), 2 pool; 3 holder, where a script is about one.
-- Times are µs. A number goes back to Redis through %.17g: it keeps the half that marks a ticket that has come back.
-- Each call costs about as much as all Lua around it: what is read together is kept together.
local SLOTS, STATE, QUEUE, TICKETS, WAITING, LEASED = unpack(KEYS, 1, 6)
local POOL = ARGV[2]
local BATCH = 64 -- heirs that one script reserves for at most
local MARGIN = 86400000 -- ms that keys outlive the last deadline in them; half of it at least
local call = redis.call

local now = tonumber(ARGV[1])
if not now then
  local clock = call('TIME')
  now = clock[1] * 1000000 + clock[2]
end

-- counter: of places and tokens. given: the last acquire's limit; override: the one set at run time. lives: until when
-- the pool's keys live at least, in ms; -1: there are tickets, so they live for ever. =holder: its record.
local row = call('HMGET', STATE, 'counter', 'limit', 'override', 'lives', '=' .. (ARGV[3] or ''))
local counter, given, override, lives = tonumber(row[1]) or 0, tonumber(row[2]) or 0, tonumber(row[3]), tonumber(row[4]) or 0
local limit = override or given
local record = row[5] -- of ARGV 3; kept true when slots are written and dropped
local tickets = lives == -1 -- are there tickets? Else there is no queue either
local changed = false -- counter, given or lives

local function text(number) return string.format('%.17g', number) end

-- Places and fencing tokens. The clock makes them grow even when the store has forgotten the counter.
local function draw()
  counter = math.max(counter + 1, now)
  changed = true
  return counter
end

local function put_slot(holder, deadline, token, place, rid, hard, label)
  local since = counter == now and token or text(now)
  local written = token .. '|' .. place .. '|' .. rid .. '|' .. hard .. '|' .. since .. '|' .. label
  call('HSET', STATE, '=' .. holder, written, 'counter', counter, 'limit', given)
  call('ZADD', SLOTS, deadline, holder)
  changed = false
  if holder == ARGV[3] then record = written end
end

local function drop_slot(holder)
  call('ZREM', SLOTS, holder)
  call('HDEL', STATE, '=' .. holder)
  if holder == ARGV[3] then record = false end
end

-- The keys live as long as the longest-lived slot, and a margin. Done by `keep`, when the state has been written.
local ends
local function live_until(at)
  lives, ends, changed = at, at, true
end

-- Making a function costs time in each script: these are made where there are tickets, tombstones or records to read.
local unpacked, record_of, back, reserve, keep_tickets, waiting, remembered
local function make_rest()
  -- A holder's record: token|place|rid|hard|since|label. No rid: reserved, not started.
  function unpacked(record)
    local token, place, rid, hard, since, label = string.match(record, '^(%d+)|([%d.]+)|([^|]*)|(%d+)|(%d+)|(.*)$')
    return { token = token, place = place, rid = rid, hard = tonumber(hard), since = since, label = label }
  end

  function record_of(holder)
    local record = call('HGET', STATE, '=' .. holder)
    return record and unpacked(record)
  end

  -- A ticket keeps its place once; then it goes to the tail, so that one that nobody can start does not block the rest.
  function back(holder, place)
    place = tonumber(place)
    if place % 1 ~= 0 then place = draw() end
    call('ZADD', QUEUE, text(place + 0.5), holder)
  end

  -- Reserve free slots for the oldest tickets; answer {holder, token, ...}.
  function reserve(held, start)
    local heirs = {}
    local free = math.min(limit - held, BATCH)
    if not tickets or free < 1 then return heirs end
    local oldest = call('ZRANGE', QUEUE, 0, free - 1, 'WITHSCORES')
    for i = 1, #oldest, 2 do
      local holder, token = oldest[i], text(draw())
      call('ZREM', QUEUE, holder)
      put_slot(holder, now + start, token, oldest[i + 1], '', '0', '')
      heirs[#heirs + 1] = holder
      heirs[#heirs + 1] = token
    end
    return heirs
  end

  -- With tickets the pool's keys live for ever, and the waiting index says when a reaper is due.
  function keep_tickets(held)
    tickets = call('EXISTS', TICKETS) == 1
    if not tickets then
      call('ZREM', WAITING, POOL)
      local last = held > 0 and tonumber(call('ZRANGE', SLOTS, -1, -1, 'WITHSCORES')[2]) or now
      live_until(math.ceil(math.max(last, now) / 1000) + MARGIN)
      return
    end
    local due = now
    if held >= limit or call('ZCARD', QUEUE) == 0 then
      due = held > 0 and call('ZRANGE', SLOTS, 0, 0, 'WITHSCORES')[2] or now + MARGIN * 1000
    end
    call('ZADD', WAITING, due, POOL)
    if lives ~= -1 then
      call('PERSIST', SLOTS)
      call('PERSIST', STATE)
      lives, changed = -1, true
    end
  end

  -- Name only heirs that still wait for their start.
  function waiting(heirs)
    local still = {}
    for i = 1, #heirs, 2 do
      local slot = record_of(heirs[i])
      if slot and slot.rid == '' and slot.token == heirs[i + 1] then
        still[#still + 1] = heirs[i]
        still[#still + 1] = heirs[i + 1]
      end
    end
    return still
  end

  -- Tombstones: "final|token|status|heirs as JSON".
  function remembered(key)
    local value = call('GET', key)
    if not value then return { final = false, token = '', status = '', heirs = {} } end
    local final, token, status, heirs = string.match(value, '^(%d)|(%d*)|(%a*)|(.*)$')
    return { final = final == '1', token = token, status = status, heirs = heirs == '' and {} or cjson.decode(heirs) }
  end
end

if tickets then make_rest() end

-- Forget expired slots; those whose envelope is here return to the queue. Answer how many slots are taken.
local function expire()
  local held = call('ZCARD', SLOTS)
  if held == 0 then return 0 end
  local gone = call('ZRANGEBYSCORE', SLOTS, '-inf', now - 1)
  for _, holder in ipairs(gone) do
    local slot = tickets and record_of(holder)
    drop_slot(holder)
    if slot and call('HEXISTS', TICKETS, holder) == 1 then back(holder, slot.place) end
  end
  return held - #gone
end

-- Ends a script that may have changed a pool: keep the counter, the indexes and the keys' lives true.
-- held: slots taken now. deadline: of a slot that this script has written, indexed: for an index that may not know it.
local function keep(held, deadline, indexed)
  if tickets then
    keep_tickets(held)
  elseif deadline then
    local needed = math.ceil(deadline / 1000)
    if needed + MARGIN / 2 > lives then
      live_until(needed + MARGIN)
    elseif indexed then -- a set that was empty has come to be without a life
      call('PEXPIREAT', SLOTS, lives)
    end
  elseif changed and lives == 0 then
    live_until(math.ceil(now / 1000) + MARGIN)
  end
  if held == 0 then
    call('ZREM', LEASED, POOL)
  elseif deadline and indexed then
    call('ZADD', LEASED, 'GT', deadline, POOL)
    call('PEXPIRE', LEASED, 7 * MARGIN)
  end
  if changed then call('HSET', STATE, 'counter', counter, 'limit', given, 'lives', lives) end
  if ends then
    if override then call('PERSIST', STATE) else call('PEXPIREAT', STATE, ends) end
    call('PEXPIREAT', SLOTS, ends)
  end
end

-- A status line "status token held limit was"; with heirs that still wait, the first of a list {line, holder, token, ...}.
local function answer(status, token, held, was, heirs)
  local line = status .. ' ' .. token .. ' ' .. held .. ' ' .. limit .. ' ' .. was
  if heirs and #heirs > 0 then heirs = waiting(heirs) end
  if heirs and #heirs > 0 then return { line, unpack(heirs) } end
  return { ok = line }
end

-- A tombstone: "final|token|status|heirs as JSON".
local function bury(key, life, status, token, heirs, final)
  local list = #heirs > 0 and cjson.encode(heirs) or ''
  call('SET', key, (final and '1|' or '0|') .. token .. '|' .. status .. '|' .. list, 'PX', life)
end
