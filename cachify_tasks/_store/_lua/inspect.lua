-- inspect: who holds what. Writes nothing.
-- reply: limit, tickets in the queue, now; then of each holder its name, its slot's record and its deadline
local holder = ''
-- include records
-- include pool
local reply = { override or given_limit, text(call('ZCARD', QUEUE)), now_text }
local live = call('ZRANGEBYSCORE', SLOTS, now_text, '+inf', 'WITHSCORES')
for i = 1, #live, 2 do
  local slot = call('HGET', STATE, SLOT .. live[i])
  if slot then
    for _, value in ipairs({ live[i], slot, live[i + 1] }) do reply[#reply + 1] = value end
  end
end
return reply
