"""Each rule of the protocol, broken on purpose, fails a test of the suite: in Lua and in memory."""

import sys
import types
from collections.abc import Callable
from importlib.resources import files
from typing import Any, NamedTuple, cast

import pytest

from cachify_tasks._io import memory, redis_store, scripts
from tests.io import test_acquire, test_due, test_find, test_leases, test_queue, test_release, test_stores, test_waiters
from tests.support.stores import CHANNELS, Store, opened

SUITE = test_acquire, test_due, test_find, test_leases, test_queue, test_release, test_stores, test_waiters


class Mutant(NamedTuple):
    """`lua` and `python` are (text, broken text); `lua` begins with the name of its file."""

    rule: str
    lua: tuple[str, str, str]
    python: tuple[str, str]
    killer: str


MUTANTS = [
    Mutant(
        "release checks the token",
        ("release", "(held_token == token or (token == '0' and held_rid == rid))", "true"),
        ("(slot.token == token or (not token and slot.rid == c.rid))", "True"),
        "test_a_run_that_lost_its_lease_does_not_free_the_second_run_of_its_task",
    ),
    Mutant(
        "release frees only what nobody else runs",
        ("release", "last.final or (record and held_rid ~= '') then", "last.final then"),
        ("elif again or last.final or (slot and slot.rid):", "elif again or last.final:"),
        "test_a_run_that_lost_its_lease_does_not_free_the_second_run_of_its_task",
    ),
    Mutant(
        "another nonce is a second delivery",
        ("acquire", "if slot and slot.rid == rid then", "if slot and slot.rid ~= '' then"),
        ("if slot and slot.rid == c.rid:", "if slot and slot.rid:"),
        "test_a_second_delivery_of_a_running_task_is_kept_aside",
    ),
    Mutant(
        "the same nonce is the same arrival",
        ("acquire", "if slot and slot.rid == rid then", "if slot and slot.rid == nil then"),
        ("if slot and slot.rid == c.rid:", "if slot and slot.rid is None:"),
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
        "a bound slot is started by nobody else",
        ("acquire", "slot.rid == '' and (slot.label == '' or slot.label == ARGV[14]) then", "slot.rid == '' then"),
        ('not slot.rid and slot.label in ("", c.bound):', "not slot.rid:"),
        "test_a_slot_that_is_bound_is_started_by_nobody_but_who_names_the_bond",
    ),
    Mutant(
        "a waiter's slot is not bound",
        ("common", "token, place, '', '0', not waits and bond or '')", "token, place, '', '0', bond or '')"),
        ('self.now, "" if waits else bond))', "self.now, bond))"),
        "test_a_waiter_is_not_bound",
    ),
    Mutant(
        "heirs that have started are not named again",
        ("common", "if slot and slot.rid == '' and slot.token == token then", "if true then"),
        ("return not slot.rid and slot.token == token", "return True"),
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
            'heirs = self.settle(c.start_ms, c.starts, bond=c.rid if c.binds else "")\n'
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
        "a ticket that is not started in time gets more time",
        ("common", "if unused then call('HINCRBY', STATE, '%' .. holder, 1) end", ""),
        ("if unused:", "if False:"),
        "test_a_ticket_that_nobody_starts_in_time_is_reserved_for_longer_each_time",
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
        ("withdraw", "if record and unpacked(record).rid == '' then drop_slot(holder) end", "drop_slot(holder)"),
        (
            "        if slot and not slot.rid:\n            del pool.slots",
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
        "no wait is negative, nor of days where the clock stands",
        ("common", "+ AHEAD) % LEVEL - AHEAD", ") % LEVEL"),
        ("+ AHEAD) % LEVEL - AHEAD", ") % LEVEL"),
        "test_one_script_names_64_heirs_at_most_and_the_next_one_the_rest",
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
        "a task is not reserved for by who cannot start it",
        ("common", "if not (waits or starts) then", "if false then"),
        ("if not (waits or starts):", "if False:"),
        "test_who_cannot_start_heirs_is_told_of_none",
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
EARLIEST = ("if self.now > pool.earliest:", "if True:")  # the short cut would hide a mutant of what it cuts short


def replaced(where: str, source: str, text: str, broken: str) -> str:
    """`source` with the text replaced; no AssertionError if it is not there: that would pass for a killed mutant."""
    if source.count(text) != 1:
        raise LookupError(f"{where} has changed: mend the mutant of {text!r}")
    return source.replace(text, broken)


def broken_script(mutant: Mutant) -> object:
    """`scripts.script`, with the mutant's text."""
    folder = files("cachify_tasks").joinpath("_lua")
    file, text, broken = mutant.lua
    mended = replaced(f"{file}.lua", folder.joinpath(f"{file}.lua").read_text("utf-8"), text, broken)

    def script(name: str) -> scripts.Script:
        parts = (
            mended if part == file else folder.joinpath(f"{part}.lua").read_text("utf-8") for part in ("common", name)
        )
        head = scripts.script("size").head.replace(scripts.script("size").sha.encode(), b"0" * 40)
        return scripts.Script("\n".join(parts), "0" * 40, head)  # no script has this digest: its text is sent

    return script


def broken_memory(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> type[memory.MemoryStore]:
    """MemoryStore, with the mutant's text."""
    source = files("cachify_tasks").joinpath("_io", "memory_pool.py").read_text("utf-8")
    source = replaced("memory_pool.py", replaced("memory_pool.py", source, *EARLIEST), *mutant.python)
    module("memory_pool", source, monkeypatch)
    source = files("cachify_tasks").joinpath("_io", "memory.py").read_text("utf-8")
    made: type[memory.MemoryStore] = module("memory", source, monkeypatch).MemoryStore
    return made


def module(name: str, source: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stands for the module of that name in `_io` until the test ends."""
    made = types.ModuleType(f"cachify_tasks._io.{name}")
    made.__package__ = "cachify_tasks._io"
    monkeypatch.setitem(sys.modules, made.__name__, made)
    exec(compile(source, "mutant", "exec", dont_inherit=True), vars(made))
    return made


def named(name: str) -> Callable[[Store], None]:
    """The test of that name."""
    (test,) = (vars(suite)[name] for suite in SUITE if name in vars(suite))
    return cast("Callable[[Store], None]", test)


@pytest.mark.leaks("keys", reason="a broken script may leave anything")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_a_broken_rule_in_lua_fails_a_test(mutant, redis_url, monkeypatch):
    killer = named(mutant.killer)
    with opened("redis-sync", redis_url) as store:
        store.listen(*CHANNELS)
        killer(store)
        store.forget()
        monkeypatch.setattr(redis_store, "script", broken_script(mutant))

        with pytest.raises(AssertionError, match="assert"):
            killer(store)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_a_broken_rule_in_memory_fails_a_test(mutant, monkeypatch):
    killer = named(mutant.killer)
    with opened("memory-sync") as whole:
        whole.listen(*CHANNELS)
        killer(whole)

    with opened("memory-sync", memory=broken_memory(mutant, monkeypatch)) as broken:
        broken.listen(*CHANNELS)

        with pytest.raises(AssertionError, match="assert"):
            killer(broken)
