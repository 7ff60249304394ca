"""Slots: who gets one, for how long, and who may free it."""

from . import Mutant

MUTANTS = [
    Mutant(
        "release checks the token",
        ("release", "(slot_token == token or (token == '0' and slot_request_id == request_id))", "true"),
        ("(slot.token == token or (not token and slot.request_id == c.request_id))", "True"),
        "test_a_run_that_lost_its_lease_does_not_free_the_second_run_of_its_task",
    ),
    Mutant(
        "release frees only what nobody else runs",
        ("release", "elseif requeue or was_final or runs then", "elseif requeue or was_final then"),
        ("elif requeue or last.final or runs:", "elif requeue or last.final:"),
        "test_a_run_that_lost_its_lease_does_not_free_the_second_run_of_its_task",
    ),
    Mutant(
        "another request id is a second delivery",
        ("acquire", "if slot_request_id == request_id then", "if record and slot_request_id ~= '' then"),
        (
            "asker=c.holder)\n        slot, status, token = pool.slots.get(c.holder), _GRANTED, 0\n"
            "        if slot and slot.request_id == c.request_id:  # sent again: the reply was lost\n"
            "            token = slot.token\n        elif slot and slot.reserved and not slot.starter:  # the",
            "asker=c.holder)\n        slot, status, token = pool.slots.get(c.holder), _GRANTED, 0\n"
            "        if slot and slot.request_id:\n"
            "            token = slot.token\n        elif slot and slot.reserved and not slot.starter:  # the",
        ),
        "test_a_second_delivery_of_a_running_task_is_kept_aside",
    ),
    Mutant(
        "the same request id is the same arrival",
        ("acquire", "if slot_request_id == request_id then", "if false then"),
        (
            "asker=c.holder)\n        slot, status, token = pool.slots.get(c.holder), _GRANTED, 0\n"
            "        if slot and slot.request_id == c.request_id:  # sent again: the reply was lost\n"
            "            token = slot.token\n        elif slot and slot.reserved and not slot.starter:  # the",
            "asker=c.holder)\n        slot, status, token = pool.slots.get(c.holder), _GRANTED, 0\n"
            "        if False:\n"
            "            token = slot.token\n        elif slot and slot.reserved and not slot.starter:  # the",
        ),
        "test_a_granted_acquire_that_is_sent_again_has_the_same_slot",
    ),
    Mutant(
        "renew never brings a slot back",
        (
            "renew",
            "local status, heirs = 'lost', nil",
            "local status, heirs = 'lost', nil\n"
            "if not record then\n"
            "record = encode_slot(token, 'r', '', '0', now_text, '') put_slot(holder, record, now) end",
        ),
        (
            '        pool, slot = self.pool, self.pool.slots.get(c.holder)\n        status: Status = "lost"\n',
            "        pool, made = self.pool, SlotRecord(c.token, 'r', '', 0, 0, '')\n"
            "        slot = pool.slots.setdefault(c.holder, made)\n"
            '        status: Status = "lost"\n',
        ),
        "test_renew_never_brings_back_a_slot_that_is_gone",
    ),
    Mutant(
        "renew checks the token",
        ("renew", "slot_token == token", "true"),
        ("if slot and slot.token == c.token and", "if slot and"),
        "test_renew_with_an_old_token_changes_nothing",
    ),
    Mutant(
        "a hard limit is not renewed away",
        ("renew", "deadline = math.min(deadline, hard_limit)", "deadline = deadline"),
        ("deadline = min(deadline, slot.hard_limit) if slot.hard_limit else deadline", "deadline = deadline"),
        "test_a_hard_limit_ends_a_slot_though_it_is_renewed",
    ),
    Mutant(
        "an early-acknowledged message stays until its task has started",
        ("renew", "if started and tickets then", "if tickets then"),
        ("if c.started:", "if True:"),
        "test_the_message_of_an_early_acknowledged_heir_goes_when_it_has_started",
    ),
    Mutant(
        "release leaves a tombstone",
        (
            "release",
            "encode_tombstone(requeue and '0' or '1', token, status, heirs)",
            "encode_tombstone('0', token, status, heirs)",
        ),
        ("status, token, heirs, final=not requeue)", "status, token, heirs, final=False)"),
        "test_a_late_copy_of_a_task_that_has_ended_is_dropped",
    ),
    Mutant(
        "a requeued task leaves no tombstone",
        (
            "release",
            "encode_tombstone(requeue and '0' or '1', token, status, heirs)",
            "encode_tombstone('1', token, status, heirs)",
        ),
        ("status, token, heirs, final=not requeue)", "status, token, heirs, final=True)"),
        "test_a_requeued_task_leaves_no_tombstone",
    ),
    Mutant(
        "a tombstone remembers the heirs",
        (
            "release",
            "encode_tombstone(requeue and '0' or '1', token, status, heirs)",
            "encode_tombstone(requeue and '0' or '1', token, status, nil)",
        ),
        ("status, token, heirs, final=not requeue)", "status, token, (), final=not requeue)"),
        "test_a_release_that_is_sent_again_has_the_same_answer",
    ),
    Mutant(
        "heirs that have started are not named again",
        ("tombstones", "if slot_token == heir_token and request_id == '' then", "if heir_record then"),
        ("if slot and slot.reserved and slot.token == token\n", "if slot\n"),
        "test_a_release_that_is_sent_again_does_not_name_heirs_that_have_started",
    ),
    Mutant(
        "a newcomer goes behind the queue",
        ("acquire", "if free and queued > 0 then", "if false then"),
        ("return first >= ASIDE or (ticket", "return True or (ticket"),
        "test_nobody_overtakes_the_queue",
    ),
    Mutant(
        "a worker's limit counts before a direct call's",
        ("request", "if by_worker or not from_worker then", "if true then"),
        ("if c.by_worker or not pool.from_worker:", "if True:"),
        "test_a_limit_of_a_direct_call_does_not_replace_a_workers",
    ),
    Mutant(
        "the limit is a limit",
        ("acquire", "local free = held < limit", "local free = held <= limit"),
        (
            "elif len(pool.slots) < pool.limit and self.goes_first",
            "elif len(pool.slots) <= pool.limit and self.goes_first",
        ),
        "test_a_full_pool_refuses_a_caller_that_cannot_wait",
    ),
    Mutant(
        "release hands its slot over",
        (
            "release",
            "-- include settle",
            "local heirs",
        ),
        (
            'heirs = self.settle(c.start_ms, c.can_start_heirs, starter=c.request_id if c.reserve_for_me else "")',
            "heirs = ()",
        ),
        "test_a_release_that_is_sent_again_has_the_same_answer",
    ),
    Mutant(
        "an heir has its slot before it starts",
        ("settle", "put_slot(heir, slot_record, now + life)", ""),
        ("self.put_slot(holder, slot, self.now + life)", "pass"),
        "test_an_heir_has_its_slot_before_it_starts",
    ),
    Mutant(
        "a standby's message is kept",
        ("acquire", "if kind and call('HEXISTS', TICKETS, TICKET .. holder) == 0 then", "if false then"),
        ("if ticket is not None and c.holder not in pool.tickets:", "if False and ticket:"),
        "test_a_standby_runs_when_the_run_dies",
    ),
    Mutant(
        "the first message of a holder is the one kept",
        ("acquire", " and call('HEXISTS', TICKETS, TICKET .. holder) == 0 then", " then"),
        ("if ticket is not None and c.holder not in pool.tickets:", "if ticket is not None:"),
        "test_a_third_delivery_does_not_replace_the_message_that_is_kept",
    ),
    Mutant(
        "sweep fills free slots",
        ("sweep", "-- include settle", "local heirs"),
        ('"swept", 0, self.settle(c.start_ms, c.can_start_heirs)', '"swept", 0'),
        "test_a_raised_limit_is_filled_by_the_next_sweep",
    ),
    Mutant(
        "a ticket keeps its rank once",
        ("tickets", "if returned ~= '0' then rank", "if true then rank"),
        ("LEVEL if ticket.returned else ticket.rank", "LEVEL"),
        "test_an_heir_that_does_not_start_in_time_is_offered_again",
    ),
    Mutant(
        "a ticket keeps its rank no more than once",
        ("tickets", "if returned ~= '0' then rank", "if false then rank"),
        ("self.draw() - ticket.priority * LEVEL if ticket.returned else ticket.rank", "ticket.rank"),
        "test_an_heir_that_nobody_can_start_does_not_block_the_others",
    ),
    Mutant(
        "the clock makes tokens grow",
        ("pool", "counter = number > now and text(number) or now_text", "counter = text(number)"),
        ("return max(self.pool.counter + 1, self.now)", "return self.pool.counter + 1"),
        "test_tokens_grow_though_the_store_has_forgotten_all",
    ),
    Mutant(
        "the counter makes tokens grow",
        ("pool", "counter = number > now and text(number) or now_text", "counter = now_text"),
        ("return max(self.pool.counter + 1, self.now)", "return self.now"),
        "test_tokens_grow_with_every_grant_though_the_clock_stands",
    ),
    Mutant(
        "a withdrawn task waits no more",
        ("withdraw", "call('ZREM', QUEUE, holder)", ""),
        (
            "reserved:\n            self.drop_slot(c.holder)\n        pool.queue.pop(c.holder, None)\n",
            "reserved:\n            self.drop_slot(c.holder)\n",
        ),
        "test_a_waiting_task_that_is_withdrawn_never_starts",
    ),
    Mutant(
        "a withdrawn task that runs goes on",
        ("withdraw", "if slot_request_id == '' then drop_slot(holder) end", "drop_slot(holder)"),
        ("if slot and slot.reserved:\n            self.drop_slot", "if slot:\n            self.drop_slot"),
        "test_a_running_task_that_is_withdrawn_goes_on_and_nothing_starts_after_it",
    ),
    Mutant(
        "one script names so many heirs",
        ("pool", "local BATCH = 64", "local BATCH = 65"),
        ("- len(pool.slots), BATCH)", "- len(pool.slots), BATCH + 1)"),
        "test_one_script_names_64_heirs_at_most_and_the_next_one_the_rest",
    ),
    Mutant(
        "a lease holds up to its deadline",
        (
            "settle",
            "call('ZRANGEBYSCORE', SLOTS, '-inf', '(' .. now_text)",
            "call('ZRANGEBYSCORE', SLOTS, '-inf', now_text)",
        ),
        ("if at < self.now)", "if at <= self.now)"),
        "test_a_slot_is_valid_up_to_and_with_its_deadline",
    ),
    Mutant(
        "a slot is handed over, not freed and raced for",
        ("settle", "if tickets and held < limit then", "if false then"),
        ("return self.reserve(start_ms, can_start_heirs, asker, starter) if pool.queue else ()", "return ()"),
        "test_a_lower_limit_evicts_nobody",
    ),
    Mutant(
        "no wait is negative",
        ("tickets", "text(math.max(0, math.floor((reserved - arrived + 500) / 1000)))", "text(reserved - arrived - 1)"),
        ("max(0, (slot.since - ticket.arrived + 500) // 1000)", "slot.since - ticket.arrived - 1"),
        "test_one_script_names_64_heirs_at_most_and_the_next_one_the_rest",
    ),
    Mutant(
        "no slot is reserved for a task when the caller cannot start it",
        ("settle", "if not (waits or can_start_heirs) then", "if false then"),
        ("if not (waits or can_start_heirs):", "if False:"),
        "test_a_caller_that_cannot_start_heirs_gets_none",
    ),
]
