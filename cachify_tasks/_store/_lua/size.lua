-- size: how many slots are held now, expired ones not counted. Writes nothing.
-- reply: an integer
local holder = ''
-- include records
-- include pool
return call('ZCOUNT', SLOTS, now_text, '+inf')
