-- settle: forget expired slots, and reserve free ones for the oldest tickets.
-- It takes held, start_ms, can_start_heirs; asker: the holder that takes its slot in this script; reserve_for: the
-- request that alone may start the heirs. It changes held, and sets heirs.
local heirs
if held > 0 then
  local expired = call('ZRANGEBYSCORE', SLOTS, '-inf', '(' .. now_text)
  for i = 1, #expired do
    local expired_record = tickets and call('HGET', STATE, SLOT .. expired[i])
    drop_slot(expired[i])
    if expired[i] == holder then record = false end
    if expired_record then
      local _, slot_request_id = string.match(expired_record, SLOT_OWNER_PATTERN)
      return_to_queue(expired[i], slot_request_id == '')
    end
  end
  held = held - #expired
end

-- Whoever runs this script reserves for all. Waiters are notified here; tasks are heirs for the caller to start. A caller
-- that cannot start them serves the waiters before the first task and no further.
if tickets and held < limit then
  local free, oldest = math.min(limit - held, BATCH), nil
  heirs = {}
  if can_start_heirs then
    oldest = call('ZPOPMIN', QUEUE, free)
  else
    oldest = call('ZRANGE', QUEUE, 0, free - 1, 'WITHSCORES')
  end
  for i = 1, #oldest, 2 do
    local heir = oldest[i]
    if oldest[i + 1] - ASIDE > now then -- it was put aside; so were those behind it
      for j = i, can_start_heirs and #oldest or 0, 2 do call('ZADD', QUEUE, oldest[j + 1], oldest[j]) end
      break
    end
    local found = call('HMGET', TICKETS, TICKET .. heir, ENVELOPE .. heir)
    -- Where a server that evicts keys has lost the ticket:
    local kind, arrived, returned, unused, deaths, unknown_for, _ = '', now, '0', '0', '0', '0', nil
    if found[1] then
      kind, _, _, arrived, returned, unused, deaths, unknown_for = string.match(found[1], TICKET_PATTERN)
    end
    local waits = kind == WAITER
    if not (waits or can_start_heirs) then break end
    local token, life = draw(), start_ms * 1000
    if not can_start_heirs then call('ZREM', QUEUE, heir) end
    if unused ~= '0' then life = life * 2 ^ math.min(unused, DOUBLINGS) end
    local slot_record = encode_slot(token, '', waits and '' or reserve_for, '0', now_text, '')
    put_slot(heir, slot_record, now + life)
    held = held + 1
    if heir == asker then
      record = slot_record
    elseif waits then -- pcall: the user may not publish; then the waiter finds out by asking
      redis.pcall('PUBLISH', call('HGET', TICKETS, CHANNEL .. heir), heir .. ' ' .. token)
    else
      add_heir(heirs, heir, token, found[2] or '', arrived, now, kind, deaths, unknown_for, returned)
    end
  end
end
