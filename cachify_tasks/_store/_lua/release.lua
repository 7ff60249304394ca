-- release: a run has ended. Free its slot if it still owns it, and reserve what is free for the oldest tickets.
-- KEYS 8 tombstone
-- ARGV 3 holder, 4 token, 5 request_id, 6 start_ms, 7 tomb_ms, 8 requeue, 9 can_start_heirs, 10 reserve_for_me, 11 died
-- reply: released token | lost token, with the heirs that it reserved slots for
local holder = ARGV[3]
-- include records
-- include pool
local TOMBSTONE = KEYS[8]
local token, request_id, start_ms, tomb_ms = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local requeue, can_start_heirs, reserve_for_me = ARGV[8] == '1', ARGV[9] == '1', ARGV[10] == '1'
local died = ARGV[11] == '1'

local slot_token, slot_request_id, runs, owns
if record then
  slot_token, slot_request_id = string.match(record, SLOT_OWNER_PATTERN)
  runs = slot_request_id ~= ''
  owns = runs and (slot_token == token or (token == '0' and slot_request_id == request_id))
end
local reads_tombstone = requeue or not owns
-- include tickets
-- include tombstones
requeue = requeue and not was_final -- final: it was revoked while it ran

local status = 'released'
if owns then
  token = slot_token
  drop_slot(holder)
  if tickets and requeue then
    return_to_queue(holder, false, died)
  elseif tickets then
    drop_ticket(holder)
  end
elseif last_token == token and last_status ~= '' then -- sent again
  return answer(last_status, token, call('ZCARD', SLOTS), heirs_still_reserved(last_heirs))
elseif requeue or was_final or runs then -- another run has the slot, or nothing is left to do
  return answer('lost', token, call('ZCARD', SLOTS))
else -- the lease was lost, but the run reached its end and no second one has started: none may start from now on
  status = 'lost'
  if record then drop_slot(holder) end
  if tickets then
    call('ZREM', QUEUE, holder)
    drop_ticket(holder)
  end
end
local held = call('ZCARD', SLOTS)
if reserve_for_me then reserve_for = request_id end
-- include settle
call('SET', TOMBSTONE, encode_tombstone(requeue and '0' or '1', token, status, heirs), 'PX', tomb_ms)
-- include keep
return answer(status, token, held, heirs)
