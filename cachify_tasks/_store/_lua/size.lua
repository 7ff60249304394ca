-- size: how many slots are held now, expired ones not counted. Writes nothing.
-- reply: an integer
return call('ZCOUNT', SLOTS, now, '+inf')
