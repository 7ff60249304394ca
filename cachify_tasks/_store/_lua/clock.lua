-- clock: the time in µs, as text and as a number.
-- ARGV 1 now; empty: the server's clock
-- It takes call.
local now_text = ARGV[1]
if now_text == '' then
  local clock = call('TIME') -- seconds, microseconds
  now_text = clock[1] .. string.sub('00000' .. clock[2], -6)
end
local now = now_text + 0
