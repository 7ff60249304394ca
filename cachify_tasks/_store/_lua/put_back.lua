-- put_back: a worker does not start an heir. Its reservation ends; its ticket is put aside, or returns to its place.
-- KEYS 8 tombstone
-- ARGV 3 holder, 4 token, 5 start_ms, 6 tomb_ms, 7 pause_ms, 8 unknown, 9 can_start_heirs
-- reply: returned token | lost token, with the heirs that it reserved slots for
local holder = ARGV[3]
-- include records
-- include pool
local TOMBSTONE = KEYS[8]
local token, start_ms, tomb_ms = ARGV[4], ARGV[5], ARGV[6]
local pause_ms, unknown, can_start_heirs = ARGV[7] + 0, ARGV[8] == '1', ARGV[9] == '1'
local SILENCE = 30000000 -- µs: for a longer time without a word nobody has said that the task is unknown

local slot_token, slot_request_id
if record then slot_token, slot_request_id = string.match(record, SLOT_OWNER_PATTERN) end
local owns = slot_token == token and slot_request_id == ''
local reads_tombstone = not owns
-- include tickets
-- include tombstones
if not owns then
  local again = last_token == token and last_status == 'returned'
  return answer(
    again and 'returned' or 'lost', token, call('ZCARD', SLOTS), again and heirs_still_reserved(last_heirs) or nil
  )
end
drop_slot(holder)
local found = call('HGET', TICKETS, TICKET .. holder)
if found then
  local kind, priority, rank, arrived, returned, unused, deaths, unknown_for, unknown_at, task_id =
    string.match(found, TICKET_PATTERN)
  if unknown then
    local said = unknown_at == '0' and 0 or math.min(now - unknown_at, SILENCE)
    unknown_for, unknown_at = text(unknown_for + said), now_text
    call('HSET', TICKETS, TICKET .. holder,
      encode_ticket(kind, priority, rank, arrived, returned, unused, deaths, unknown_for, unknown_at, task_id))
  end
  call('ZADD', QUEUE, pause_ms == 0 and rank or text(ASIDE + now + pause_ms * 1000), holder)
end
local held = call('ZCARD', SLOTS)
-- include settle
call('SET', TOMBSTONE, encode_tombstone('0', token, 'returned', heirs), 'PX', tomb_ms)
-- include keep
return answer('returned', token, held, heirs)
