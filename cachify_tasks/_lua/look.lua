-- look: who holds what. Writes nothing.
-- reply: {limit, tickets in the queue, now, holder, record, deadline, ...}
local reply = { text(load_meta().limit), text(call('ZCARD', QUEUE)), text(now) }
local live = call('ZRANGEBYSCORE', SLOTS, text(now), '+inf', 'WITHSCORES')
for i = 1, #live, 2 do
  local record = call('HGET', HOLDERS, live[i])
  if record then
    for _, value in ipairs({ live[i], record, live[i + 1] }) do reply[#reply + 1] = value end
  end
end
return reply
