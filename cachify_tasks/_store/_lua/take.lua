-- take: give the holder a slot that it runs in.
-- It takes takes (is there anything to do?), token, held. It sets deadline and index_lease.
if takes then
  local hard_limit = '0'
  deadline = now + lease_ms * 1000
  if slot_exp_ms ~= '0' then
    deadline = math.min(deadline, now + slot_exp_ms * 1000)
    hard_limit = text(now + slot_exp_ms * 1000)
  end
  put_slot(holder, encode_slot(token, request_id, '', hard_limit, now_text, label), deadline)
  index_lease = held == 1
end
