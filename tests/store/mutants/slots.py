"""Who gets a slot, how long, and who may free it."""

from . import Mutant

MUTANTS = [
    Mutant(
        "release checks the token",
        ("release", "(held_token == token or (token == '0' and held_request_id == request_id))", "true"),
        ("(slot.token == token or (not token and slot.request_id == c.request_id))", "True"),
        "test_a_run_that_lost_its_lease_does_not_free_the_second_run_of_its_task",
    ),
    Mutant(
        "release frees only what nobody else runs",
        ("release", "last.final or (record and held_request_id ~= '') then", "last.final then"),
        ("elif again or last.final or (slot and slot.request_id):", "elif again or last.final:"),
        "test_a_run_that_lost_its_lease_does_not_free_the_second_run_of_its_task",
    ),
    Mutant(
        "another nonce is a second delivery",
        ("acquire", "if slot and slot.request_id == request_id then", "if slot and slot.request_id ~= '' then"),
        ("if slot and slot.request_id == c.request_id:", "if slot and slot.request_id:"),
        "test_a_second_delivery_of_a_running_task_is_kept_aside",
    ),
    Mutant(
        "the same nonce is the same arrival",
        ("acquire", "if slot and slot.request_id == request_id then", "if slot and slot.request_id == nil then"),
        ("if slot and slot.request_id == c.request_id:", "if slot and slot.request_id is None:"),
        "test_a_granted_acquire_that_is_sent_again_has_the_same_slot",
    ),
    Mutant(
        "renew never brings a slot back",
        (
            "renew",
            "local status, deadline = 'lost', nil",
            "local status, deadline = 'lost', nil\n"
            "if not slot then put_slot(holder, now, token, token, 'r', '0', '') slot = unpacked(record) end",
        ),
        (
            'slot, status = self.pool.slots.get(c.holder), "lost"',
            'slot, status = self.pool.slots.get(c.holder) or Slot(c.token, 0, "r", 0, 0, 0, ""), "lost"',
        ),
        "test_renew_never_brings_back_a_slot_that_is_gone",
    ),
    Mutant(
        "renew checks the token",
        ("renew", "slot.token == token", "true"),
        ("if slot and slot.token == c.token and", "if slot and"),
        "test_renew_with_an_old_token_changes_nothing",
    ),
    Mutant(
        "a hard limit is not renewed away",
        ("renew", "deadline = math.min(deadline, slot.hard)", "deadline = deadline"),
        ("deadline = min(deadline, slot.hard) if slot.hard else deadline", "deadline = deadline"),
        "test_a_hard_limit_ends_a_slot_though_it_is_renewed",
    ),
    Mutant(
        "a message stays until its early-acknowledged start is told",
        ("renew", "if acked then", "if true then"),
        ("if c.acked:", "if True:"),
        "test_the_message_of_an_early_acknowledged_heir_goes_when_it_has_started",
    ),
    Mutant(
        "release leaves a tombstone",
        (
            "release",
            "bury(DONE, life, status, token, heirs, not again)",
            "bury(DONE, life, status, token, heirs, false)",
        ),
        ("Last(not again, token, status, _names(heirs))", "Last(False, token, status, _names(heirs))"),
        "test_a_late_copy_of_a_task_that_has_ended_is_dropped",
    ),
    Mutant(
        "no tombstone for what shall run again",
        (
            "release",
            "bury(DONE, life, status, token, heirs, not again)",
            "bury(DONE, life, status, token, heirs, true)",
        ),
        ("Last(not again, token, status, _names(heirs))", "Last(True, token, status, _names(heirs))"),
        "test_a_task_that_shall_run_again_leaves_no_tombstone",
    ),
    Mutant(
        "a tombstone remembers the heirs",
        (
            "release",
            "bury(DONE, life, status, token, heirs, not again)",
            "bury(DONE, life, status, token, {}, not again)",
        ),
        ("Last(not again, token, status, _names(heirs))", "Last(not again, token, status, ())"),
        "test_a_release_that_is_sent_again_is_answered_the_same",
    ),
    Mutant(
        "heirs that have started are not named again",
        ("common", "if slot and slot.request_id == '' and slot.token == token then", "if true then"),
        ("return not slot.request_id and slot.token == token", "return True"),
        "test_a_release_that_is_sent_again_does_not_name_heirs_that_have_started",
    ),
    Mutant(
        "a newcomer goes behind those who wait",
        ("acquire", "if free and queued > 0 then", "if false then"),
        ("return not pool.queue or", "return True or"),
        "test_nobody_overtakes_those_who_wait",
    ),
    Mutant(
        "the limit is a limit",
        ("acquire", "local free = held < limit", "local free = held <= limit"),
        (
            "elif len(pool.slots) < pool.limit and",
            "elif len(pool.slots) <= pool.limit and",
        ),
        "test_a_full_pool_refuses_who_cannot_wait",
    ),
    Mutant(
        "release hands its slot over",
        (
            "release",
            "local held, heirs = settle(start_ms, starts, nil, bond)",
            "local held, heirs = call('ZCARD', SLOTS), {}",
        ),
        (
            'heirs = self.settle(c.start_ms, c.can_start_heirs, bond=c.request_id if c.binds else "")\n'
            "        self.bury(c.holder, c.tomb_ms, Last(not again",
            "heirs = ()\n        self.bury(c.holder, c.tomb_ms, Last(not again",
        ),
        "test_a_release_that_is_sent_again_is_answered_the_same",
    ),
    Mutant(
        "a heir has its slot before it starts",
        (
            "common",
            "put_slot(holder, now + start_ms * 1000 * 2 ^ math.min(missed, PATIENCE), token, place, '', '0', "
            "not waits and bond or '')",
            "",
        ),
        (
            'self.put(holder, Slot(token, place, "", deadline, 0, self.now, "" if waits else bond))\n'
            "            if holder == asker:",
            'slot = Slot(token, place, "", deadline, 0, self.now, "")\n'
            "            heirs.append(Heir(holder, token, envelope, 0))\n            if True:",
        ),
        "test_a_heir_has_its_slot_before_it_starts",
    ),
    Mutant(
        "a standby's message is kept",
        ("acquire", "== 0 then\n      put_ticket(holder, envelope)", "== 0 then"),
        (
            "not in pool.tickets:\n                    self.put_ticket(c.holder, c.envelope)",
            "not in pool.tickets:\n                    pass",
        ),
        "test_a_standby_runs_when_the_run_dies",
    ),
    Mutant(
        "the first message of a holder is the one kept",
        ("acquire", " and call('HEXISTS', TICKETS, holder) == 0 then", " then"),
        (" and c.holder not in pool.tickets:", ":"),
        "test_a_third_delivery_does_not_replace_the_message_that_is_kept",
    ),
    Mutant(
        "sweep fills free slots",
        ("sweep", "settle(ARGV[3], true)", "call('ZCARD', SLOTS), {}"),
        ('"swept", 0, heirs=self.settle(command.start_ms, starts=True)', '"swept", 0'),
        "test_a_raised_limit_is_filled_by_the_next_sweep",
    ),
    Mutant(
        "a ticket keeps its place once",
        ("common", "if place % 1 ~= 0 then", "if true then"),
        ("if place % 1:", "if True:"),
        "test_a_heir_that_does_not_start_in_time_is_offered_again",
    ),
    Mutant(
        "a ticket keeps its place no more than once",
        ("common", "if place % 1 ~= 0 then", "place = math.floor(place)\n    if false then"),
        ("if place % 1:", "place //= 1\n        if False:"),
        "test_a_heir_that_nobody_can_start_does_not_block_the_others",
    ),
    Mutant(
        "the clock makes tokens grow",
        ("common", "counter = math.max(counter + 1, now)", "counter = counter + 1"),
        ("self.pool.counter = max(self.pool.counter + 1, self.now)", "self.pool.counter += 1"),
        "test_tokens_grow_though_the_store_has_forgotten_all",
    ),
    Mutant(
        "the counter makes tokens grow",
        ("common", "counter = math.max(counter + 1, now)", "counter = now"),
        ("self.pool.counter = max(self.pool.counter + 1, self.now)", "self.pool.counter = self.now"),
        "test_tokens_grow_with_every_grant_though_the_clock_stands",
    ),
    Mutant(
        "a withdrawn task waits no more",
        ("withdraw", "call('ZREM', QUEUE, holder)", ""),
        (
            "del pool.slots[c.holder]\n        pool.queue.pop(c.holder, None)\n        self.drop_ticket(c.holder)\n",
            "del pool.slots[c.holder]\n",
        ),
        "test_a_waiting_task_that_is_withdrawn_never_starts",
    ),
    Mutant(
        "a withdrawn task that runs goes on",
        ("withdraw", "if record and unpacked(record).request_id == '' then drop_slot(holder) end", "drop_slot(holder)"),
        (
            "        if slot and not slot.request_id:\n            del pool.slots",
            "        if slot:\n            del pool.slots",
        ),
        "test_a_running_task_that_is_withdrawn_goes_on_and_nothing_starts_after_it",
    ),
    Mutant(
        "one script names so many heirs",
        ("common", "local BATCH = 64", "local BATCH = 65"),
        ("BATCH: Final = 64", "BATCH: Final = 65"),
        "test_one_script_names_64_heirs_at_most_and_the_next_one_the_rest",
    ),
    Mutant(
        "a lease holds up to its deadline",
        ("common", "call('ZRANGEBYSCORE', SLOTS, '-inf', now - 1)", "call('ZRANGEBYSCORE', SLOTS, '-inf', now)"),
        ("if s.deadline < self.now)", "if s.deadline <= self.now)"),
        "test_a_slot_is_valid_up_to_and_with_its_deadline",
    ),
    Mutant(
        "a slot is handed over, not freed and raced for",
        ("common", "if tickets then return reserve(held, start_ms, starts, asker, bond) end", ""),
        ("return self.reserve(start_ms, starts, asker, bond) if pool.queue else ()", "return ()"),
        "test_a_lower_limit_evicts_nobody",
    ),
    Mutant(
        "no wait is negative, nor of days where the clock stands",
        ("common", "+ AHEAD) % LEVEL - AHEAD", ") % LEVEL"),
        ("+ AHEAD) % LEVEL - AHEAD", ") % LEVEL"),
        "test_one_script_names_64_heirs_at_most_and_the_next_one_the_rest",
    ),
    Mutant(
        "a task is not reserved for by who cannot start it",
        ("common", "if not (waits or starts) then", "if false then"),
        ("if not (waits or starts):", "if False:"),
        "test_who_cannot_start_heirs_is_told_of_none",
    ),
]
