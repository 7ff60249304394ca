-- sweep: forget expired leases, reserve free slots for the oldest tickets. By anybody who can start them, at any time.
-- ARGV 3 start_ms
-- reply: swept, with the heirs that it reserved for
expire()
local heirs = reserve(tonumber(ARGV[3]) * 1000)
return answer('swept', 0, keep(), 0, waiting(heirs))
