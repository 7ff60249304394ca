-- acquire: ask for a slot.
-- KEYS 7 done
-- ARGV 3 holder, 4 rid, 5 limit, 6 lease_ms, 7 start_ms, 8 hard_ms, 9 label, 10 flags, 11 envelope
-- reply: granted token | parked | standby | dropped | full, with the heirs that it reserved for
local DONE = KEYS[7]
local holder, rid, asked, label, flags, envelope = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[9], ARGV[10], ARGV[11]
local lease, start, hard = tonumber(ARGV[6]) * 1000, tonumber(ARGV[7]) * 1000, tonumber(ARGV[8]) * 1000
local park, nudge, fresh, starts = false, false, true, false
if flags ~= 'f' then
  local function flag(letter) return string.find(flags, letter, 1, true) ~= nil end
  park, nudge, fresh, starts = flag('p'), flag('n'), flag('f'), flag('s')
end

local was = 0
if asked > 0 and given ~= asked then
  was, given, changed = given, asked, true
  limit = override or given
end
local held = expire()
local heirs = tickets and starts and reserve(held, start) or {}
held = held + #heirs / 2

local deadline
local function take(token, place)
  deadline = now + (hard > 0 and math.min(lease, hard) or lease)
  put_slot(holder, deadline, token, place, rid, hard > 0 and text(now + hard) or '0', label)
end

if record or not fresh or envelope ~= '' then make_rest() end
local status, token = 'granted', 0
local slot = record and unpacked(record)
local queued = tickets and call('ZCARD', QUEUE) or 0
if slot and slot.rid == rid then -- sent again: the reply was lost
  token = slot.token
elseif slot and slot.rid == '' then -- its reserved slot: whoever comes first starts it
  token = slot.token
  take(token, slot.place)
elseif queued > 0 and call('ZSCORE', QUEUE, holder) then
  status = 'parked'
else
  local barred = nudge or (not fresh and remembered(DONE).final)
  if slot then -- runs elsewhere, or did until a crash that nobody has noticed: keep this copy aside
    status = barred and 'dropped' or 'standby'
    if not barred and envelope ~= '' then
      call('HSETNX', TICKETS, holder, envelope)
      tickets = true
    end
  elseif barred then
    status = 'dropped'
  elseif queued == 0 and held < limit then
    token = text(draw())
    take(token, token)
    held = held + 1
  elseif park then
    status = 'parked'
    call('ZADD', QUEUE, text(draw()), holder)
    call('HSET', TICKETS, holder, envelope)
    tickets = true
  else
    status = 'full'
  end
end
keep(held, deadline, held == 1)
return answer(status, token, held, was, heirs)
