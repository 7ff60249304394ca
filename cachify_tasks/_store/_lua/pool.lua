-- pool: the beginning of every script about a pool. It reads the pool's state, and writes and drops slots.
-- KEYS 1 slots, 2 state, 3 queue, 4 tickets, 5 waiting, 6 leased, 7 tasks
-- ARGV 2 pool
-- It takes holder: whom the script is about; empty: it is about none.
-- Times are µs. A call takes 0.3 to 1 µs, and so does turning a large number into text. So what is read together is kept
-- together, and numbers that are only passed on (tokens, the counter, limits) stay texts. A function costs 30 ns for
-- each variable that it takes from outside, each time a script runs: what runs once is no function but a part that is
-- included at its place.
local SLOTS, STATE, QUEUE, TICKETS, WAITING, LEASED, TASKS = unpack(KEYS, 1, 7)
local POOL = ARGV[2]
local BATCH = 64 -- slots that one script reserves at most
local LEVEL = 1099511627776 -- 2^40 µs: a ticket of the next higher priority counts as that much older
local DOUBLINGS = 3 -- each unused reservation makes the next one twice as long, at most so many times
local MARGIN = 86400000 -- ms that keys outlive the last deadline in them; half of it at least
local call = redis.call

-- include clock

-- counter: the last token or rank. given_limit: the last acquire's; override: the one set at run time. keep_until: until
-- when the pool's keys live at least, in ms; -1: there are tickets, so they have no TTL. record: the holder's slot.
local state = call('HMGET', STATE, 'counter', 'limit', 'override', 'keep_until', SLOT .. holder, 'limit_from')
local counter, given_limit, override = state[1] or '0', state[2] or '0', state[3]
local keep_until = tonumber(state[4]) or 0
local limit = tonumber(override or given_limit)
local record = state[5] -- false: the holder has no slot
local tickets = keep_until == -1 -- does the pool have tickets? If not, its queue is empty too
local changed = false -- counter or given_limit differ from what is stored
local new_keep_until -- where the keys need another TTL
-- What a script hands to the parts that it includes; they say what it means.
local reserve_for, asker, may_put_ticket, deadline, index_lease = ''

local function text(number) return string.format('%.0f', number) end

-- A token or rank: greater than all before. The clock makes it grow even when the store has lost the counter.
local function draw()
  local number = counter + 1
  counter = number > now and text(number) or now_text
  changed = true
  return counter
end

local function put_slot(holder, slot_record, slot_deadline)
  call('HSET', STATE, SLOT .. holder, slot_record, 'counter', counter, 'limit', given_limit)
  call('ZADD', SLOTS, slot_deadline, holder)
  changed = false
end

local function drop_slot(holder)
  call('ZREM', SLOTS, holder)
  call('HDEL', STATE, SLOT .. holder)
end

-- A line "status token held limit previous_limit"; with heirs a list of it and five values for each heir.
local function answer(status, token, held, heirs, previous_limit)
  local line = status .. ' ' .. token .. ' ' .. held .. ' ' .. (override or given_limit) .. ' ' .. (previous_limit or '0')
  if heirs and heirs[1] then return { line, unpack(heirs) } end
  return { ok = line }
end
