"""Who waits, in what order, who is called, and who looks after them."""

from . import Mutant

MUTANTS = [
    Mutant(
        "a bound slot is started by nobody else",
        (
            "acquire",
            "slot.request_id == '' and (slot.label == '' or slot.label == ARGV[14]) then",
            "slot.request_id == '' then",
        ),
        ('not slot.request_id and slot.label in ("", c.bound):', "not slot.request_id:"),
        "test_a_slot_that_is_bound_is_started_by_nobody_but_who_names_the_bond",
    ),
    Mutant(
        "a waiter's slot is not bound",
        ("common", "token, place, '', '0', not waits and bond or '')", "token, place, '', '0', bond or '')"),
        ('self.now, "" if waits else bond))', "self.now, bond))"),
        "test_a_waiter_is_not_bound",
    ),
    Mutant(
        "a ticket that is not started in time gets more time",
        ("common", "if unused then call('HINCRBY', STATE, '%' .. holder, 1) end", ""),
        ("if unused:", "if False:"),
        "test_a_ticket_that_nobody_starts_in_time_is_reserved_for_longer_each_time",
    ),
    Mutant(
        "a raised limit is filled",
        ("configure", "settle(start_ms, starts)", "call('ZCARD', SLOTS)"),
        ("heirs=self.settle(command.start_ms, command.starts))", "heirs=())"),
        "test_a_raised_limit_names_heirs_for_who_can_start_them",
    ),
    Mutant(
        "a queue has a longest length",
        ("acquire", "elseif park and (max_parked == '0' or queued < tonumber(max_parked)) then", "elseif park then"),
        ("elif c.park and (not c.max_parked or len(pool.queue) < c.max_parked):", "elif c.park:"),
        "test_a_full_queue_refuses_who_would_wait",
    ),
    Mutant(
        "a higher priority goes first",
        (
            "acquire",
            "call('ZADD', QUEUE, text(draw() - priority * LEVEL), holder)",
            "call('ZADD', QUEUE, text(draw()), holder)",
        ),
        ("pool.queue[c.holder] = self.draw() - c.priority * LEVEL", "pool.queue[c.holder] = self.draw()"),
        "test_a_higher_priority_goes_first_and_within_one_goes_the_order_of_arrival",
    ),
    Mutant(
        "a run that was never parked has its priority",
        ("acquire", "take(token, priority and text(drawn - priority * LEVEL) or token)", "take(token, token)"),
        ("self.take(c, drawn, drawn - c.priority * LEVEL)", "self.take(c, drawn, drawn)"),
        "test_a_ticket_of_a_run_that_was_never_parked_returns_with_its_priority",
    ),
    Mutant(
        "the tail is that of the priority",
        ("common", "place = drawn - math.floor((drawn - place) / LEVEL) * LEVEL", "place = drawn"),
        ("place = drawn - (drawn - place) // LEVEL * LEVEL", "place = drawn"),
        "test_a_ticket_that_goes_to_the_tail_goes_to_that_of_its_priority",
    ),
    Mutant(
        "a higher priority takes the slot that a lower one cannot",
        ("acquire", "free = priority and math.max(counter + 1, now) - priority * LEVEL < first", "free = false"),
        ("return not pool.queue or max(", "return not pool.queue or False and max("),
        "test_a_higher_priority_takes_the_slot_that_waits_for_a_reaper",
    ),
    Mutant(
        "a wait is told without its priority",
        ("common", "% LEVEL - AHEAD", "- AHEAD"),
        ("% LEVEL - AHEAD", "- AHEAD"),
        "test_a_heir_of_a_priority_has_waited_no_longer_than_others",
    ),
    Mutant(
        "a heir that has waited is told with the time until its slot was reserved",
        (
            "common",
            "tell(heirs, holder, token, envelope, slot.place, slot.since)",
            "tell(heirs, holder, token, envelope, slot.place, now)",
        ),
        ("waited = (slot.since - slot.place", "waited = (self.now - slot.place"),
        "test_a_release_that_is_sent_again_later_names_its_heirs_with_the_same_message_and_wait",
    ),
    Mutant(
        "a task with no message is not found",
        ("common", "if task and call('HGET', STATE, '@' .. task) == holder then", "if false then"),
        ("if self.pool.found.get(task) == holder:", "if False:"),
        "test_a_task_is_found_as_long_as_the_store_has_its_message",
    ),
    Mutant(
        "an earlier attempt that ends does not hide the later one",
        ("common", "if task and call('HGET', STATE, '@' .. task) == holder then", "if task then"),
        ("if self.pool.found.get(task) == holder:", "if task in self.pool.found:"),
        "test_of_two_attempts_the_later_one_is_found_though_the_earlier_one_ends",
    ),
    Mutant(
        "a free slot and a ticket call a reaper at once",
        ("common", "if held >= limit or call('ZCARD', QUEUE) == 0 then", "if true then"),
        ("if pool.queue and len(pool.slots) < pool.limit:", "if False:"),
        "test_a_reaper_is_due_at_a_raised_limit_that_nobody_has_filled",
    ),
    Mutant(
        "a reaper is not due before there is something to do",
        ("common", "if held >= limit or call('ZCARD', QUEUE) == 0 then", "if false then"),
        ("if pool.queue and len(pool.slots) < pool.limit:", "if True:"),
        "test_a_reaper_is_due_when_the_first_of_the_leases_ends",
    ),
    Mutant(
        "a waiter is called when a slot is reserved for it",
        ("common", "redis.pcall('PUBLISH', string.sub(envelope, 2), holder .. ' ' .. token)", ""),
        ("self.calls.append((envelope[1:].decode(), holder, token))", "pass"),
        "test_a_waiter_is_called_when_a_slot_is_free_and_takes_it",
    ),
    Mutant(
        "a waiter is no heir",
        ("common", "elseif waits then", "elseif false then"),
        ("            if waits:\n", "            if False:\n"),
        "test_a_waiter_is_called_where_it_listens_whoever_frees_the_slot",
    ),
    Mutant(
        "a waiter is served by who cannot start tasks",
        ("common", "if not (waits or starts) then", "if not starts then"),
        ("if not (waits or starts):", "if not starts:"),
        "test_a_waiter_is_called_when_a_slot_is_free_and_takes_it",
    ),
    Mutant(
        "a waiter does not overtake a task that nobody here can start",
        (
            "common",
            "if not (waits or starts) then break end",
            "if not (waits or starts) then\n"
            "holder, place, waits = oldest[i + 2], oldest[i + 3], true\n"
            "envelope = call('HGET', TICKETS, holder) end",
        ),
        ("                break\n", "                continue\n"),
        "test_waiters_before_a_task_are_called_by_who_cannot_start_the_task",
    ),
    Mutant(
        "a dead waiter does not come back",
        ("common", "if waiter(envelope) then return drop_ticket(holder) end", ""),
        (
            "        if envelope.startswith(WAITER):\n            self.drop_ticket",
            "        if False:\n            self.drop_ticket",
        ),
        "test_a_waiter_that_does_not_come_is_forgotten_and_the_next_one_is_called",
    ),
    Mutant(
        "a waiter that runs has no ticket",
        ("acquire", "if envelope and waiter(envelope) then drop_ticket(holder) end", ""),
        ("            if c.envelope.startswith(WAITER):", "            if False:"),
        "test_a_waiter_that_runs_has_no_ticket_and_does_not_come_back",
    ),
    Mutant(
        "a waiter that asks is not called",
        ("common", "if holder == asker then", "if false then"),
        ("if holder == asker:", "if False:"),
        "test_a_waiter_that_finds_its_slot_by_asking_is_not_called",
    ),
]
