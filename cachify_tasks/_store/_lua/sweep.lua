-- sweep: forget expired leases, reserve free slots for the oldest tickets. By anybody who can start them, at any time.
-- ARGV 3 start_ms
-- reply: swept, with the heirs that it reserved for
local held, heirs = settle(ARGV[3], true)
keep(held)
return answer('swept', 0, held, 0, heirs)
