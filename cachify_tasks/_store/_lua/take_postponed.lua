-- take_postponed: the messages that are due. For a while no other worker gets them.
-- KEYS 1 due, 2 messages
-- ARGV 2 limit, 3 hide_ms
-- reply: the ms until the next one is due (-1: there is none), then name, message of each
local call = redis.call
-- include clock
local DUE, MESSAGES = KEYS[1], KEYS[2]
local limit, hide_ms = ARGV[2], ARGV[3]

local names = call('ZRANGEBYSCORE', DUE, '-inf', now_text, 'LIMIT', 0, limit)
local reply = { -1 }
for _, name in ipairs(names) do
  local message = call('HGET', MESSAGES, name)
  if message then
    call('ZADD', DUE, now + hide_ms * 1000, name)
    reply[#reply + 1] = name
    reply[#reply + 1] = message
  else -- a server that evicts keys has lost it
    call('ZREM', DUE, name)
  end
end
local first = call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2]
if first then reply[1] = math.max(0, math.ceil((first - now) / 1000)) end
return reply
