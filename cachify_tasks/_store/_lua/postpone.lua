-- postpone: keep a message until it is due.
-- KEYS 1 due, 2 messages
-- ARGV 2 name, 3 message, 4 delay_ms
-- reply: OK
local call = redis.call
-- include clock
local DUE, MESSAGES = KEYS[1], KEYS[2]
local name, message, delay_ms = ARGV[2], ARGV[3], ARGV[4]

call('HSET', MESSAGES, name, message)
call('ZADD', DUE, now + delay_ms * 1000, name)
return redis.status_reply('OK')
