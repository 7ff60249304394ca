-- look: is there room in the pool? Writes nothing.
-- reply: slots held, expired ones not counted; tickets in the queue; the limit set at run time; empty: none
local holder = ''
-- include records
-- include pool
return { call('ZCOUNT', SLOTS, now_text, '+inf'), call('ZCARD', QUEUE), override or '' }
