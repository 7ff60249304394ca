-- release: a run has ended. Free its slot if it is still its own, and reserve what is free for the oldest tickets.
-- KEYS 7 done
-- ARGV 3 holder, 4 token, 5 request_id, 6 start_ms, 7 tomb_ms, 8 flags
-- reply: released token | lost token, with the heirs that it reserved for
local DONE = KEYS[7]
local holder, token, request_id, start_ms, life, flags = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local again, starts = string.find(flags, 'a', 1, true) ~= nil, string.find(flags, 's', 1, true) ~= nil
local bond = string.find(flags, 'b', 1, true) and request_id or ''

local held_token, place, held_request_id
if record then held_token, place, held_request_id = string.match(record, '^(%d+)|([%d.]+)|([^|]*)') end
local owns = record and held_request_id ~= '' and (held_token == token or (token == '0' and held_request_id == request_id))
if again or not owns then make_rest() end
local last = (again or not owns) and remembered(DONE)
again = again and not last.final -- final already: revoked while it ran
local status = 'released'
if owns then
  token = held_token
  drop_slot(holder)
  if tickets and not again then
    drop_ticket(holder)
  elseif tickets then
    back(holder, place)
  end
elseif last.token == token and last.status ~= '' then -- sent again
  return answer(last.status, token, call('ZCARD', SLOTS), 0, waiting(last.heirs))
elseif again or last.final or (record and held_request_id ~= '') then -- another run has it
  return answer('lost', token, call('ZCARD', SLOTS), 0)
else -- the lease was lost, yet the run reached its end and no second one has started: none shall
  status = 'lost'
  if record then drop_slot(holder) end
  call('ZREM', QUEUE, holder)
  drop_ticket(holder)
end
local held, heirs = settle(start_ms, starts, nil, bond)
bury(DONE, life, status, token, heirs, not again)
keep(held)
return answer(status, token, held, 0, heirs)
