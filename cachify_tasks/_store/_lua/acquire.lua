-- acquire: ask for a slot; when the pool is full, wait in its queue if there is a ticket that says so.
-- KEYS 8 tombstone
-- ARGV 3 holder
-- ARGV 11 first_delivery, 12 can_start_heirs
-- ARGV 13 kind, 14 envelope, 15 task_id, 16 park, 17 priority, 18 max_parked: of the ticket; not sent without one
-- reply: granted token | parked | standby | dropped | full, with the heirs that it reserved slots for
local holder = ARGV[3]
-- include records
-- include pool
-- include request
local first_delivery, can_start_heirs = ARGV[11] == '1', ARGV[12] == '1'
local kind, envelope, task_id = ARGV[13], ARGV[14], ARGV[15]
local park, priority, max_parked = ARGV[16] == '1', ARGV[17], ARGV[18]

may_put_ticket = kind and (record or held >= limit)
-- include tickets
-- include settle
local slot_token, slot_request_id, starter
if record then slot_token, slot_request_id, starter = string.match(record, SLOT_OWNER_PATTERN) end
local queued = tickets and call('ZCARD', QUEUE) or 0
local status, token, takes = 'granted', '0', false

if slot_request_id == request_id then -- sent again: the reply was lost
  token = slot_token
elseif slot_request_id == '' and starter == '' then -- the holder's reserved slot: the first to come starts it
  token = slot_token
  takes = true
elseif queued > 0 and call('ZSCORE', QUEUE, holder) then
  status = 'parked'
else
  local tombstone = not first_delivery and call('GET', TOMBSTONE)
  local free = held < limit
  if free and queued > 0 then -- nobody could start the first ticket: only a higher priority goes before it, unless it
    -- was put aside
    local first = call('ZRANGE', QUEUE, 0, 0, 'WITHSCORES')[2] + 0
    free = first > ASIDE or (kind and math.max(counter + 1, now) - priority * LEVEL < first)
  end
  if tombstone and string.match(tombstone, TOMBSTONE_PATTERN) == '1' then
    status = 'dropped'
  elseif record then -- it runs elsewhere, or is about to, or did until a crash that nobody has noticed: keep this copy
    status = 'standby'
    if kind and call('HEXISTS', TICKETS, TICKET .. holder) == 0 then
      put_ticket(holder, kind, priority, text(slot_token - priority * LEVEL), task_id, ENVELOPE, envelope)
    end
  elseif free then
    token = draw()
    takes = true
    held = held + 1
  elseif park and (max_parked == '0' or queued < max_parked + 0) then
    status = 'parked'
    local rank = draw_rank(priority)
    put_ticket(holder, kind, priority, rank, task_id, ENVELOPE, envelope)
    call('ZADD', QUEUE, rank, holder)
  else
    status = 'full'
  end
end
-- include take
-- include keep
return answer(status, token, held, heirs, previous_limit)
