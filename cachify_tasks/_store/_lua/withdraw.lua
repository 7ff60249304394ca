-- withdraw: a ticket leaves (revoked, expired, tired of waiting). A run goes on; nothing starts any more.
-- KEYS 8 tombstone
-- ARGV 3 holder, 4 start_ms, 5 tomb_ms, 6 can_start_heirs
-- reply: withdrawn, with the heirs that it reserved slots for
local holder = ARGV[3]
-- include records
-- include pool
local TOMBSTONE = KEYS[8]
local start_ms, tomb_ms, can_start_heirs = ARGV[4], ARGV[5], ARGV[6] == '1'

local reads_tombstone = true
-- include tickets
-- include tombstones
if was_final then -- sent again, or it has ended already
  return answer('withdrawn', '0', call('ZCARD', SLOTS), heirs_still_reserved(last_heirs))
end
if record then
  local _, slot_request_id = string.match(record, SLOT_OWNER_PATTERN)
  if slot_request_id == '' then drop_slot(holder) end
end
if tickets then
  call('ZREM', QUEUE, holder)
  drop_ticket(holder)
end
local held = call('ZCARD', SLOTS)
-- include settle
call('SET', TOMBSTONE, encode_tombstone('1', '0', 'withdrawn', heirs), 'PX', tomb_ms)
-- include keep
return answer('withdrawn', '0', held, heirs)
