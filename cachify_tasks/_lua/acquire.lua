-- acquire: ask for a slot.
-- KEYS 8 done
-- ARGV 3 holder, 4 rid, 5 limit, 6 lease_ms, 7 start_ms, 8 hard_ms, 9 label, 10 flags, 11 envelope
-- reply: granted token | parked | standby | dropped | full, with the heirs that it reserved for
local DONE = KEYS[8]
local holder, rid, limit, label, flags, envelope = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[9], ARGV[10], ARGV[11]
local lease, start, hard = tonumber(ARGV[6]) * 1000, tonumber(ARGV[7]) * 1000, tonumber(ARGV[8]) * 1000
local function flag(letter) return string.find(flags, letter, 1, true) ~= nil end
local park, nudge, fresh, starts = flag('p'), flag('n'), flag('f'), flag('s')

load_meta()
local was = 0
if limit > 0 and meta.given ~= limit then
  was = meta.given
  meta.given, meta.changed = limit, true
  meta.limit = meta.override or limit
end
expire()
local heirs = starts and reserve(start) or {}

local function take(slot)
  slot.rid, slot.label, slot.since = rid, label, text(now)
  slot.hard = hard > 0 and text(now + hard) or '0'
  call('ZADD', SLOTS, text(now + (hard > 0 and math.min(lease, hard) or lease)), holder)
  call('HSET', HOLDERS, holder, packed(slot))
end

local status, token, place = 'granted', 0, nil
local record = call('HGET', HOLDERS, holder)
local slot = record and unpacked(record)
local queued = call('ZCARD', QUEUE)
if slot and slot.rid == rid then -- sent again: the reply was lost
  token = slot.token
elseif slot and slot.rid == '' then -- its reserved slot: whoever comes first starts it
  take(slot)
  token = slot.token
elseif queued > 0 and call('ZSCORE', QUEUE, holder) then
  status = 'parked'
else
  local barred = nudge or (not fresh and remembered(DONE).final)
  if slot then -- runs elsewhere, or did until a crash that nobody has noticed: keep this copy aside
    status = barred and 'dropped' or 'standby'
    if not barred and envelope ~= '' then call('HSETNX', TICKETS, holder, envelope) end
  elseif barred then
    status = 'dropped'
  elseif queued == 0 and call('ZCARD', SLOTS) < meta.limit then
    token = text(draw())
    take({ token = token, place = token })
  elseif park then
    status = 'parked'
    call('ZADD', QUEUE, text(draw()), holder)
    call('HSET', TICKETS, holder, envelope)
  else
    status = 'full'
  end
end
return answer(status, token, keep(), was, waiting(heirs))
