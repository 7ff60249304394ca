-- look: who holds what. Writes nothing.
-- reply: {limit, tickets in the queue, now, holder, record, deadline, ...}
local reply = { text(limit), text(call('ZCARD', QUEUE)), text(now) }
local live = call('ZRANGEBYSCORE', SLOTS, now, '+inf', 'WITHSCORES')
for i = 1, #live, 2 do
  local found = call('HGET', STATE, '=' .. live[i])
  if found then
    for _, value in ipairs({ live[i], found, live[i + 1] }) do reply[#reply + 1] = value end
  end
end
return reply
