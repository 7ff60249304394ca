-- acquire: ask for a slot.
-- KEYS 7 done
-- ARGV 3 holder, 4 request_id, 5 limit, 6 lease_ms, 7 start_ms, 8 hard_ms, 9 label, 10 flags,
-- ARGV 11 envelope, 12 priority, 13 max_parked, 14 bound
-- reply: granted token | parked | standby | dropped | full, with the heirs that it reserved for
local DONE = KEYS[7]
local holder, request_id, asked, start_ms, label, flags = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[7], ARGV[9], ARGV[10]
local envelope, priority, max_parked = ARGV[11], ARGV[12], ARGV[13] -- not sent by who has no envelope
local lease, hard = tonumber(ARGV[6]) * 1000, tonumber(ARGV[8]) * 1000
local park, nudge, fresh, starts = false, false, true, false
if flags ~= 'f' then
  park, nudge = string.find(flags, 'p', 1, true), string.find(flags, 'n', 1, true)
  fresh, starts = string.find(flags, 'f', 1, true), string.find(flags, 's', 1, true)
end

local was = 0
if asked > 0 and given ~= asked then
  was, given, changed = given, asked, true
  limit = override or given
end
local held, heirs = settle(start_ms, starts, holder)

local deadline
local function take(token, place)
  deadline = now + (hard > 0 and math.min(lease, hard) or lease)
  put_slot(holder, deadline, token, place, request_id, hard > 0 and text(now + hard) or '0', label)
end

local status, token = 'granted', 0
local slot
if record then
  make_rest()
  slot = unpacked(record)
end
local queued = tickets and call('ZCARD', QUEUE) or 0
if slot and slot.request_id == request_id then -- sent again: the reply was lost
  token = slot.token
elseif slot and slot.request_id == '' and (slot.label == '' or slot.label == ARGV[14]) then
  -- its reserved slot: whoever comes first starts it, of those that it is bound to
  token = slot.token
  take(token, slot.place)
  if envelope and waiter(envelope) then drop_ticket(holder) end -- there is no message to be kept until the end
elseif queued > 0 and call('ZSCORE', QUEUE, holder) then
  status = 'parked'
else
  local tomb = not nudge and not fresh and call('GET', DONE)
  local barred = nudge or (tomb and string.sub(tomb, 1, 1) == '1')
  local free = held < limit
  if free and queued > 0 then -- left by who could not start the first of them: a higher priority goes before it
    local first = tonumber(call('ZRANGE', QUEUE, 0, 0, 'WITHSCORES')[2])
    free = priority and math.max(counter + 1, now) - priority * LEVEL < first
  end
  if slot then -- runs elsewhere or is about to, or did until a crash that nobody has noticed: keep this copy aside
    status = barred and 'dropped' or 'standby'
    if not barred and envelope and envelope ~= '' and call('HEXISTS', TICKETS, holder) == 0 then
      put_ticket(holder, envelope)
    end
  elseif barred then
    status = 'dropped'
  elseif free then
    local drawn = draw()
    token = text(drawn)
    take(token, priority and text(drawn - priority * LEVEL) or token)
    held = held + 1
  elseif park and (max_parked == '0' or queued < tonumber(max_parked)) then
    make_rest()
    status = 'parked'
    put_ticket(holder, envelope)
    call('ZADD', QUEUE, text(draw() - priority * LEVEL), holder)
  else
    status = 'full'
  end
end
keep(held, deadline, held == 1)
return answer(status, token, held, was, heirs)
