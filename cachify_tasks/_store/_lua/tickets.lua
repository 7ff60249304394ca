-- tickets: what scripts do with tickets and with the queue.
-- It takes may_put_ticket: the script may give a pool its first ticket. Where a pool has no tickets nothing of this is
-- needed, and making the functions takes as long as two calls.
local draw_rank, put_ticket, drop_ticket, return_to_queue, add_heir
local ticket_dropped = false -- by this script: perhaps it was the last

if tickets or may_put_ticket then
  -- A new rank at the end of a priority.
  function draw_rank(priority)
    local number = draw()
    return priority == '0' and number or text(number - priority * LEVEL)
  end

  -- content_field: ENVELOPE or CHANNEL.
  function put_ticket(holder, kind, priority, rank, task_id, content_field, content)
    local written = encode_ticket(kind, priority, rank, now_text, '0', '0', '0', '0', '0', task_id)
    if task_id == '' then
      call('HSET', TICKETS, TICKET .. holder, written, content_field .. holder, content)
    else
      call('HSET', TICKETS, TICKET .. holder, written, content_field .. holder, content, TASK .. task_id, holder)
      call('HSET', TASKS, task_id, POOL)
    end
    tickets = true
  end

  function drop_ticket(holder)
    local found = call('HGET', TICKETS, TICKET .. holder)
    if not found then return end
    local kind, _, _, _, _, _, _, _, _, task_id = string.match(found, TICKET_PATTERN)
    local content = (kind == WAITER and CHANNEL or ENVELOPE) .. holder
    if task_id ~= '' and call('HGET', TICKETS, TASK .. task_id) == holder then
      call('HDEL', TICKETS, TICKET .. holder, content, TASK .. task_id)
      if call('HGET', TASKS, task_id) == POOL then call('HDEL', TASKS, task_id) end
    else
      call('HDEL', TICKETS, TICKET .. holder, content)
    end
    ticket_dropped = true
  end

  -- A slot is gone and its task has not ended: the ticket, if there is one, returns to the queue. It keeps its rank once;
  -- after that it goes to the end of its priority, so that a task that nobody can start does not block the others. A
  -- waiter's ticket is dropped: its process is dead, or it will ask again. unused: the slot was reserved and not started.
  -- died: the run has killed its process.
  function return_to_queue(holder, unused, died)
    local found = call('HGET', TICKETS, TICKET .. holder)
    if not found then return end
    local kind, priority, rank, arrived, returned, count, deaths, unknown_for, unknown_at, task_id =
      string.match(found, TICKET_PATTERN)
    if kind == WAITER then return drop_ticket(holder) end
    if returned ~= '0' then rank = draw_rank(priority) end
    if unused then
      count = count + 1
      if returned == '0' then returned = '1' end
    else
      returned, unknown_for, unknown_at = '2', '0', '0'
    end
    if died then deaths = deaths + 1 end
    call('HSET', TICKETS, TICKET .. holder,
      encode_ticket(kind, priority, rank, arrived, returned, count, deaths, unknown_for, unknown_at, task_id))
    call('ZADD', QUEUE, rank, holder)
  end

  -- Append an heir to a list: holder, token, envelope, the ms from its arrival until its slot was reserved, kind, deaths,
  -- unknown_for, and 1 if it has run before.
  function add_heir(heirs, holder, token, envelope, arrived, reserved, kind, deaths, unknown_for, returned)
    local n = #heirs
    heirs[n + 1], heirs[n + 2], heirs[n + 3], heirs[n + 5] = holder, token, envelope, kind
    heirs[n + 4] = text(math.max(0, math.floor((reserved - arrived + 500) / 1000)))
    heirs[n + 6], heirs[n + 7], heirs[n + 8] = deaths, unknown_for, returned == '2' and '1' or '0'
  end
end
