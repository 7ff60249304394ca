-- start_reserved: take the slot that is reserved for a parked task. The store keeps the task's message.
-- KEYS 8 tombstone
-- ARGV 3 holder
-- ARGV 11 can_start_heirs, 12 starter
-- reply: granted token | parked | dropped, with the heirs that it reserved slots for
local holder = ARGV[3]
-- include records
-- include pool
-- include request
local can_start_heirs, starter = ARGV[11] == '1', ARGV[12]

-- include tickets
-- include settle
local slot_token, slot_request_id, slot_starter
if record then slot_token, slot_request_id, slot_starter = string.match(record, SLOT_OWNER_PATTERN) end
local status, token, takes = 'dropped', '0', false

if slot_request_id == request_id then -- sent again: the reply was lost
  status, token = 'granted', slot_token
elseif slot_request_id == '' and (slot_starter == '' or slot_starter == starter) then
  status, token, takes = 'granted', slot_token, true
elseif tickets and call('ZSCORE', QUEUE, holder) then
  status = 'parked'
end
-- include take
-- include keep
return answer(status, token, held, heirs, previous_limit)
