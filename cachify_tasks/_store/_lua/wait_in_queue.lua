-- wait_in_queue: ask for a slot for a function that waits, and stay in the queue until there is one.
-- KEYS 8 tombstone
-- ARGV 3 holder
-- ARGV 11 channel
-- reply: granted token | parked | dropped
local holder = ARGV[3]
-- include records
-- include pool
-- include request
local channel, can_start_heirs = ARGV[11], false

may_put_ticket = held >= limit
-- include tickets
-- include settle
local slot_token, slot_request_id, starter
if record then slot_token, slot_request_id, starter = string.match(record, SLOT_OWNER_PATTERN) end
local queued = tickets and call('ZCARD', QUEUE) or 0
local status, token, takes = 'granted', '0', false

if slot_request_id == request_id then -- sent again: the reply was lost
  token = slot_token
elseif slot_request_id == '' and starter == '' then -- its reserved slot. No message has to be kept until it ends
  token = slot_token
  takes = true
  if tickets then drop_ticket(holder) end
elseif queued > 0 and call('ZSCORE', QUEUE, holder) then
  status = 'parked'
else
  local tombstone = not record and call('GET', TOMBSTONE)
  if record or (tombstone and string.match(tombstone, TOMBSTONE_PATTERN) == '1') then -- it has stopped waiting
    status = 'dropped'
  elseif held < limit and (queued == 0 or call('ZRANGE', QUEUE, 0, 0, 'WITHSCORES')[2] - ASIDE > 0) then
    token = draw()
    takes = true
    held = held + 1
  else
    status = 'parked'
    local rank = draw()
    put_ticket(holder, WAITER, '0', rank, '', CHANNEL, channel)
    call('ZADD', QUEUE, rank, holder)
  end
end
-- include take
-- include keep
return answer(status, token, held, nil, previous_limit)
