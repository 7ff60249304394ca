-- keep: keep the counter, the indexes and the TTLs of the keys true. The end of every script that may change a pool.
-- With tickets they have no TTL, and an index says when a reaper is due: now, if a slot is free beside a ticket in the
-- queue; else when the first lease or reservation ends. Without tickets they live as long as the longest-lived slot, and
-- a margin.
-- It takes held, heirs; deadline: of the slot that the script has written; index_lease: the index of leases may not know
-- that slot.
if tickets and ticket_dropped and not (heirs and heirs[1]) and call('EXISTS', TICKETS) == 0 then
  call('ZREM', WAITING, POOL)
  local last = now
  if held > 0 then -- while there were tickets, slots that were reserved have not entered the index of leases
    last = tonumber(call('ZRANGE', SLOTS, -1, -1, 'WITHSCORES')[2])
    deadline, index_lease = last, true
  end
  new_keep_until = math.ceil(math.max(last, now) / 1000) + MARGIN
elseif tickets then
  local due = now
  local first = held < limit and call('ZRANGE', QUEUE, 0, 0, 'WITHSCORES')[2]
  if not first or first - ASIDE > now then -- the pool is full, or nothing in its queue may have a slot yet
    due = held > 0 and call('ZRANGE', SLOTS, 0, 0, 'WITHSCORES')[2] or now + MARGIN * 1000
    if first then due = math.min(due, first - ASIDE) end
  end
  call('ZADD', WAITING, due, POOL)
  if keep_until ~= -1 then
    call('PERSIST', SLOTS)
    call('PERSIST', STATE)
    keep_until, changed = -1, true
  end
elseif deadline then
  local needed = math.ceil(deadline / 1000)
  if needed + MARGIN / 2 > keep_until then
    new_keep_until = needed + MARGIN
  elseif index_lease then -- the key was gone while no slot was held, and has no TTL
    call('PEXPIREAT', SLOTS, keep_until)
  end
elseif changed and keep_until == 0 then
  new_keep_until = math.ceil(now / 1000) + MARGIN
end
if held == 0 then
  call('ZREM', LEASED, POOL)
elseif deadline and index_lease and call('ZADD', LEASED, 'GT', deadline, POOL) == 1 then
  call('PEXPIRE', LEASED, 7 * MARGIN)
end
if new_keep_until then
  if keep_until > 0 then -- now and then: pools leave the index whose processes died and whose keys are gone
    call('ZREMRANGEBYSCORE', LEASED, '-inf', now - MARGIN * 1000)
    call('PEXPIRE', LEASED, 7 * MARGIN)
  end
  call('HSET', STATE, 'counter', counter, 'limit', given_limit, 'keep_until', new_keep_until)
  if override then call('PERSIST', STATE) else call('PEXPIREAT', STATE, new_keep_until) end
  call('PEXPIREAT', SLOTS, new_keep_until)
elseif changed then
  call('HSET', STATE, 'counter', counter, 'limit', given_limit, 'keep_until', keep_until)
end
