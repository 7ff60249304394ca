-- sweep: forget expired leases, reserve free slots for the oldest tickets. By anybody who can start them, at any time.
-- ARGV 3 start_ms
-- reply: swept, with the heirs that it reserved for
local held = expire()
local heirs = tickets and reserve(held, tonumber(ARGV[3]) * 1000) or {}
held = held + #heirs / 2
keep(held)
return answer('swept', 0, held, 0, heirs)
