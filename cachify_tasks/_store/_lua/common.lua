-- What the pool scripts share; put in front of each of them.
-- KEYS 1 slots, 2 state, 3 queue, 4 tickets, 5 waiting, 6 leased; 7 done, where a script is about one holder.
-- ARGV 1 now (µs; empty: the server's clock), 2 pool; 3 holder, where a script is about one.
-- Times are µs. A number goes back to Redis through %.17g: it keeps the half that marks a ticket that has come back.
-- Each call costs about as much as all Lua around it: what is read together is kept together.
local SLOTS, STATE, QUEUE, TICKETS, WAITING, LEASED = unpack(KEYS, 1, 6)
local POOL = ARGV[2]
local BATCH = 64 -- slots that one script reserves at most
local LEVEL = 1099511627776 -- 2^40 µs: a ticket of the next higher priority counts as that much older
local AHEAD = 4294967296 -- 2^32 µs: more than any place lies ahead of the clock (places are drawn one by one)
local MARGIN = 86400000 -- ms that keys outlive the last deadline in them; half of it at least
local PATIENCE = 3 -- each reservation that ends unused makes the next one twice as long, so often at most
local call = redis.call

local now = tonumber(ARGV[1])
if not now then
  local clock = call('TIME')
  now = clock[1] * 1000000 + clock[2]
end

-- counter: of places and tokens. given: the last acquire's limit; override: the one set at run time. lives: until when
-- the pool's keys live at least, in ms; -1: there are tickets, so they live for ever. =holder: its record.
-- @task: which holder of that task has a ticket.
local row = call('HMGET', STATE, 'counter', 'limit', 'override', 'lives', '=' .. (ARGV[3] or ''))
local counter, given, override = tonumber(row[1]) or 0, tonumber(row[2]) or 0, tonumber(row[3])
local lives = tonumber(row[4]) or 0
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

local function put_slot(holder, deadline, token, place, request_id, hard, label)
  local since = place == token and counter == now and token or text(now)
  local written = token .. '|' .. place .. '|' .. request_id .. '|' .. hard .. '|' .. since .. '|' .. label
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
local unpacked, record_of, waiter, put_ticket, drop_ticket, back, tell, reserve, keep_tickets, waiting, remembered
local function make_rest()
  if unpacked then return end
  -- A holder's record: token|place|request_id|hard|since|label. No request_id: reserved, not started; the label is then whom it is
  -- bound to: nobody else may start it.
  function unpacked(record)
    local token, place, request_id, hard, since, label = string.match(record, '^(%d+)|([%d.]+)|([^|]*)|(%d+)|(%d+)|(.*)$')
    return { token = token, place = place, request_id = request_id, hard = tonumber(hard), since = since, label = label }
  end

  function record_of(holder)
    local record = call('HGET', STATE, '=' .. holder)
    return record and unpacked(record)
  end

  -- A function that waits has for its envelope "~" and the channel on which it listens.
  function waiter(envelope) return string.byte(envelope) == 126 end

  -- A holder is named "task id:attempt": one can ask for the ticket by the task's id alone.
  function put_ticket(holder, envelope)
    local task = string.match(holder, '^(.*):')
    call('HSET', TICKETS, holder, envelope)
    if task then call('HSET', STATE, '@' .. task, holder) end
    tickets = true
  end

  function drop_ticket(holder)
    local missed, task = '%' .. holder, call('HDEL', TICKETS, holder) == 1 and string.match(holder, '^(.*):')
    if task and call('HGET', STATE, '@' .. task) == holder then
      call('HDEL', STATE, '@' .. task, missed)
    else
      call('HDEL', STATE, missed)
    end
  end

  -- A slot is gone and nothing has ended: its ticket, if there is one, returns to the queue. It keeps its place once;
  -- then it goes to the tail of its priority, so that one that nobody can start does not block the rest. A waiter's
  -- ticket goes: its process is dead, or it will ask again. unused: nobody started it while its slot was reserved.
  function back(holder, place, unused)
    local envelope = call('HGET', TICKETS, holder)
    if not envelope then return end
    if waiter(envelope) then return drop_ticket(holder) end
    place = tonumber(place)
    if place % 1 ~= 0 then
      local drawn = draw()
      place = drawn - math.floor((drawn - place) / LEVEL) * LEVEL
    end
    call('ZADD', QUEUE, text(place + 0.5), holder)
    if unused then call('HINCRBY', STATE, '%' .. holder, 1) end
  end

  -- Add a heir to a list: its holder, token, envelope, and the ms from its place until its slot was reserved.
  function tell(heirs, holder, token, envelope, place, since)
    local waited = (tonumber(since) - tonumber(place) + AHEAD) % LEVEL - AHEAD
    local n = #heirs
    heirs[n + 1], heirs[n + 2], heirs[n + 3] = holder, token, envelope
    heirs[n + 4] = text(math.max(0, math.floor((waited + 500) / 1000)))
  end

  -- Reserve free slots for the oldest tickets. A waiter is called here, whoever runs this script; a task is a heir for
  -- the caller to start, if it can. If not, nobody behind that task is served either. asker: it takes its slot in this
  -- script. bond: whom the slots of tasks are bound to. Answer how many slots are taken, and the heirs.
  function reserve(held, start_ms, starts, asker, bond)
    local heirs, free = {}, math.min(limit - held, BATCH)
    if free < 1 then return held, heirs end
    local oldest = call('ZRANGE', QUEUE, 0, free - 1, 'WITHSCORES')
    for i = 1, #oldest, 2 do
      local holder, place = oldest[i], oldest[i + 1]
      local envelope = call('HGET', TICKETS, holder) or '' -- or: a server that evicts keys
      local waits = waiter(envelope)
      if not (waits or starts) then break end
      local token, missed = text(draw()), 0
      if tonumber(place) % 1 ~= 0 then missed = tonumber(call('HGET', STATE, '%' .. holder)) or 0 end
      call('ZREM', QUEUE, holder)
      put_slot(holder, now + start_ms * 1000 * 2 ^ math.min(missed, PATIENCE), token, place, '', '0', not waits and bond or '')
      held = held + 1
      if holder == asker then
        asker = nil
      elseif waits then -- protected: a user may be barred from the channel; then the waiter finds out by asking
        redis.pcall('PUBLISH', string.sub(envelope, 2), holder .. ' ' .. token)
      else
        tell(heirs, holder, token, envelope, place, now)
      end
    end
    return held, heirs
  end

  -- With tickets the pool's keys live for ever, and the waiting index says when a reaper is due.
  function keep_tickets(held)
    tickets = call('EXISTS', TICKETS) == 1
    if not tickets then
      call('ZREM', WAITING, POOL)
      local last = now
      if held > 0 then -- slots that were reserved are known by their tickets alone until then
        last = tonumber(call('ZRANGE', SLOTS, -1, -1, 'WITHSCORES')[2])
        call('ZADD', LEASED, 'GT', text(last), POOL)
        call('PEXPIRE', LEASED, 7 * MARGIN)
      end
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

  -- Of the heirs that a tombstone remembers, {holder, token, ...}, those that still wait for their start.
  function waiting(names)
    local heirs = {}
    for i = 1, #names, 2 do
      local holder, token = names[i], names[i + 1]
      local slot, envelope = record_of(holder), call('HGET', TICKETS, holder) or ''
      if slot and slot.request_id == '' and slot.token == token then
        tell(heirs, holder, token, envelope, slot.place, slot.since)
      end
    end
    return heirs
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

-- Forget expired slots, give free ones to the oldest tickets. Answer how many slots are taken, and the heirs, if any.
local function settle(start_ms, starts, asker, bond)
  local held = call('ZCARD', SLOTS)
  if held > 0 then
    local gone = call('ZRANGEBYSCORE', SLOTS, '-inf', now - 1)
    for _, holder in ipairs(gone) do
      local slot = tickets and record_of(holder)
      drop_slot(holder)
      if slot then back(holder, slot.place, slot.request_id == '') end
    end
    held = held - #gone
  end
  if tickets then return reserve(held, start_ms, starts, asker, bond) end
  return held
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

-- A line "status token held limit was"; with heirs the first of a list {line, holder, token, envelope, waited, ...}.
local function answer(status, token, held, was, heirs)
  local line = status .. ' ' .. token .. ' ' .. held .. ' ' .. limit .. ' ' .. was
  if heirs and #heirs > 0 then return { line, unpack(heirs) } end
  return { ok = line }
end

-- A tombstone: "final|token|status|heirs as JSON"; of the heirs their holders and tokens.
local function bury(key, life, status, token, heirs, final)
  local list = ''
  if heirs and #heirs > 0 then
    local names = {}
    for i = 1, #heirs, 4 do
      names[#names + 1] = heirs[i]
      names[#names + 1] = heirs[i + 1]
    end
    list = cjson.encode(names)
  end
  call('SET', key, (final and '1|' or '0|') .. token .. '|' .. status .. '|' .. list, 'PX', life)
end
