"""The queue, its order, wakeups, and the reaper."""

from . import Mutant

MUTANTS = [
    Mutant(
        "a slot that is reserved for a starter is started by nobody else",
        (
            "start_reserved",
            "slot_request_id == '' and (slot_starter == '' or slot_starter == starter) then",
            "slot_request_id == '' then",
        ),
        ('slot.reserved and slot.starter in ("", c.starter):', "slot.reserved:"),
        "test_a_slot_that_is_reserved_for_a_starter_is_started_by_nobody_else",
    ),
    Mutant(
        "a second delivery does not start what is reserved for a starter",
        ("acquire", "slot_request_id == '' and starter == '' then", "slot_request_id == '' then"),
        (
            "slot.reserved and not slot.starter:  # the holder's reserved slot: the first",
            "slot.reserved:  # the holder's reserved slot: the first",
        ),
        "test_a_slot_that_is_reserved_for_a_starter_is_started_by_nobody_else",
    ),
    Mutant(
        "a waiter's slot has no starter",
        ("settle", "waits and '' or reserve_for", "reserve_for"),
        ('"", "" if waits else starter, 0', '"", starter, 0'),
        "test_a_waiters_slot_is_reserved_for_no_starter",
    ),
    Mutant(
        "a task that runs once more is told so",
        ("tickets", "returned, unknown_for, unknown_at = '2',", "returned, unknown_for, unknown_at = '1',"),
        ("UNUSED if unused else RAN", "UNUSED"),
        "test_an_heir_says_whether_it_has_run_before",
    ),
    Mutant(
        "a ticket that is not started in time gets more time",
        ("tickets", "count = count + 1", "count = count"),
        ("unused=ticket.unused + unused", "unused=ticket.unused"),
        "test_a_ticket_that_nobody_starts_in_time_is_reserved_for_longer_each_time",
    ),
    Mutant(
        "a raised limit is filled",
        ("configure", "-- include settle", "local heirs"),
        ('"configured", 0, self.settle(c.start_ms, c.can_start_heirs)', '"configured", 0'),
        "test_a_raised_limit_names_heirs_to_a_caller_that_can_start_them",
    ),
    Mutant(
        "a queue has a longest length",
        ("acquire", "elseif park and (max_parked == '0' or queued < max_parked + 0) then", "elseif park then"),
        (" and ticket.park and (not ticket.max_parked or len(pool.queue) < ticket.max_parked):", " and ticket.park:"),
        "test_a_full_queue_refuses_another_task",
    ),
    Mutant(
        "a higher priority goes first",
        ("acquire", "local rank = draw_rank(priority)", "local rank = draw()"),
        (
            "rank = self.draw() - ticket.priority * LEVEL\n            self.put",
            "rank = self.draw()\n            self.put",
        ),
        "test_a_higher_priority_goes_first_and_within_one_goes_the_order_of_arrival",
    ),
    Mutant(
        "a run that was never parked has its priority",
        ("acquire", "text(slot_token - priority * LEVEL)", "slot_token"),
        ("slot.token - ticket.priority * LEVEL)", "slot.token)"),
        "test_a_ticket_of_a_run_that_was_never_parked_returns_with_its_priority",
    ),
    Mutant(
        "the tail is that of the priority",
        ("tickets", "rank = draw_rank(priority) end", "rank = draw() end"),
        ("rank = self.draw() - ticket.priority * LEVEL if ticket", "rank = self.draw() if ticket"),
        "test_a_ticket_that_goes_to_the_end_goes_to_that_of_its_priority",
    ),
    Mutant(
        "a higher priority takes the slot that a lower one cannot",
        ("acquire", "(kind and math.max(counter + 1, now) - priority * LEVEL < first)", "false"),
        ("(ticket is not None and self.next_number()", "(False and self.next_number()"),
        "test_a_higher_priority_takes_the_slot_that_waits_for_a_reaper",
    ),
    Mutant(
        "the time of arrival has nothing to do with the priority",
        (
            "tickets",
            "encode_ticket(kind, priority, rank, now_text, '0'",
            "encode_ticket(kind, priority, rank, rank, '0'",
        ),
        ("ticket.priority, rank, self.now, task_id", "ticket.priority, rank, rank, task_id"),
        "test_an_heir_of_a_priority_has_waited_no_longer_than_others",
    ),
    Mutant(
        "an heir has waited until its slot was reserved",
        ("tombstones", "arrived or since, since, kind or ''", "arrived or since, now, kind or ''"),
        ("(slot.since - ticket.arrived + 500)", "(self.now - ticket.arrived + 500)"),
        "test_a_release_that_is_sent_again_later_names_its_heirs_with_the_same_message_and_wait",
    ),
    Mutant(
        "a task with no message is not found",
        (
            "tickets",
            "call('HDEL', TICKETS, TICKET .. holder, content, TASK .. task_id)",
            "call('HDEL', TICKETS, content)",
        ),
        ("if pool.tasks.get(ticket.task_id) == holder:", "return\n        if False:"),
        "test_a_task_is_found_as_long_as_the_store_has_its_message",
    ),
    Mutant(
        "an earlier attempt that ends does not hide the later one",
        (
            "tickets",
            "if task_id ~= '' and call('HGET', TICKETS, TASK .. task_id) == holder then",
            "if task_id ~= '' then",
        ),
        ("if pool.tasks.get(ticket.task_id) == holder:", "if ticket.task_id in pool.tasks:"),
        "test_of_two_attempts_the_later_one_is_found_though_the_earlier_one_ends",
    ),
    Mutant(
        "a free slot and a ticket call a reaper at once",
        ("keep", "local due = now", "local due = now + MARGIN * 1000"),
        ("pool.due = self.now\n", "pool.due = NEVER\n"),
        "test_a_reaper_is_due_at_a_raised_limit_that_nobody_has_filled",
    ),
    Mutant(
        "a reaper is not due before there is something to do",
        ("keep", "if not first or first - ASIDE > now then", "if false then"),
        ("if first <= ASIDE + self.now:", "if True:"),
        "test_a_reaper_is_due_when_the_first_of_the_leases_ends",
    ),
    Mutant(
        "a waiter is notified when a slot is reserved for it",
        ("settle", "redis.pcall('PUBLISH', call('HGET', TICKETS, CHANNEL .. heir), heir .. ' ' .. token)", ""),
        ("self.notifications.append((pool.channels[holder], holder, token))", "pass"),
        "test_a_waiter_is_notified_when_a_slot_is_free_and_takes_it",
    ),
    Mutant(
        "a waiter is no heir",
        ("settle", "elseif waits then", "elseif false then"),
        ("            if waits and holder != asker:\n", "            if False:\n"),
        "test_a_waiter_is_notified_where_it_listens_whoever_frees_the_slot",
    ),
    Mutant(
        "a caller that cannot start tasks serves waiters",
        ("settle", "if not (waits or can_start_heirs) then", "if not can_start_heirs then"),
        ("if not (waits or can_start_heirs):", "if not can_start_heirs:"),
        "test_a_waiter_is_notified_when_a_slot_is_free_and_takes_it",
    ),
    Mutant(
        "a waiter does not overtake a task that nobody here can start",
        (
            "settle",
            "if not (waits or can_start_heirs) then break end",
            "if not (waits or can_start_heirs) then heir, waits = oldest[i + 2], true end\nif not heir then break end",
        ),
        ("can_start_heirs):\n                break\n", "can_start_heirs):\n                continue\n"),
        "test_a_caller_that_cannot_start_a_task_serves_the_waiters_before_it",
    ),
    Mutant(
        "a dead waiter does not come back",
        ("tickets", "if kind == WAITER then return drop_ticket(holder) end", ""),
        (
            "        if ticket.kind == WAITER:\n            self.drop_ticket",
            "        if False:\n            self.drop_ticket",
        ),
        "test_a_waiter_that_does_not_come_is_forgotten_and_the_next_one_is_notified",
    ),
    Mutant(
        "a waiter that runs has no ticket",
        ("wait_in_queue", "if tickets then drop_ticket(holder) end", ""),
        ("slot.token)\n            self.drop_ticket(c.holder)\n", "slot.token)\n"),
        "test_a_waiter_that_runs_has_no_ticket_and_does_not_come_back",
    ),
    Mutant(
        "a waiter that asks is not notified",
        ("settle", "elseif waits then --", "end if waits then --"),
        ("if waits and holder != asker:", "if waits:"),
        "test_a_waiter_that_finds_its_slot_by_asking_is_not_notified",
    ),
    Mutant(
        "a waiter that has left gets nothing",
        ("wait_in_queue", "if record or (tombstone and", "if record or (false and"),
        ("elif slot or self.tombstone(c.holder).final:", "elif slot:"),
        "test_a_waiter_that_asks_after_it_has_left_gets_nothing",
    ),
    Mutant(
        "a waiter does not overtake",
        ("wait_in_queue", "elseif held < limit and (queued == 0 or", "elseif held < limit and (true or"),
        ("elif len(pool.slots) < pool.limit and min(", "elif len(pool.slots) < pool.limit or min("),
        "test_a_waiter_does_not_overtake_a_task_that_nobody_here_can_start",
    ),
    Mutant(
        "an heir says its kind",
        ("settle", "arrived, now, kind, deaths", "arrived, now, '', deaths"),
        ("waited_ms, ticket.kind, ", 'waited_ms, "", '),
        "test_a_message_that_looks_like_a_waiters_is_a_message",
    ),
    Mutant(
        "a ticket that was put aside gets no slot",
        ("settle", "if oldest[i + 1] - ASIDE > now then", "if false then"),
        ("if rank > ASIDE + self.now:", "if False:"),
        "test_a_ticket_that_was_put_aside_gets_no_slot_while_its_pause_lasts",
    ),
    Mutant(
        "a ticket that was put aside has its place again",
        ("sweep", "if found then call('ZADD'", "if false then call('ZADD'"),
        ("pool.queue[holder] = pool.tickets[holder].rank  # it has", "pass  # it has"),
        "test_a_ticket_that_was_put_aside_has_its_place_again_when_its_pause_is_over",
    ),
    Mutant(
        "a function goes before a ticket that was put aside",
        ("acquire", "free = first > ASIDE or", "free ="),
        ("return first >= ASIDE or", "return"),
        "test_a_function_goes_before_a_ticket_that_was_put_aside",
    ),
    Mutant(
        "a reaper is due when a pause is over",
        ("keep", "if first then due = math.min(due, first - ASIDE) end", ""),
        ("default=self.now + MARGIN), first - ASIDE)", "default=self.now + MARGIN), NEVER)"),
        "test_a_reaper_is_due_when_the_pause_is_over",
    ),
    Mutant(
        "an heir that has started is not put back",
        ("put_back", "slot_token == token and slot_request_id == ''", "slot_token == token"),
        ("if not (slot and slot.reserved and slot.token == c.token):", "if not (slot and slot.token == c.token):"),
        "test_an_heir_that_has_started_is_not_put_back",
    ),
    Mutant(
        "a silence does not count as a word",
        ("put_back", "math.min(now - unknown_at, SILENCE)", "now - unknown_at"),
        ("said = min(self.now - ticket.unknown_at, SILENCE)", "said = self.now - ticket.unknown_at"),
        "test_an_heir_says_for_how_long_workers_have_not_known_its_task",
    ),
    Mutant(
        "a death of its process is counted",
        ("tickets", "if died then deaths = deaths + 1 end", ""),
        ("deaths=ticket.deaths + died", "deaths=ticket.deaths"),
        "test_an_heir_says_how_many_of_its_runs_have_killed_their_process",
    ),
]
