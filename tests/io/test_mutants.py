"""Each rule of the protocol, broken on purpose, fails a test of the suite: in Lua and in memory."""

import sys
import types
from importlib.resources import files
from typing import NamedTuple

import pytest

from cachify_tasks._io import memory, redis_store, scripts
from tests.io import test_stores
from tests.support.stores import opened


class Mutant(NamedTuple):
    """`lua` and `python` are (text, broken text); `lua` begins with the name of its file."""

    rule: str
    lua: tuple[str, str, str]
    python: tuple[str, str]
    killer: str


MUTANTS = [
    Mutant(
        "release checks the token",
        ("release", "(slot.token == token or (token == '0' and slot.rid == rid))", "true"),
        ("(slot.token == token or (not token and slot.rid == c.rid))", "True"),
        "test_a_run_that_lost_its_lease_does_not_free_the_second_run_of_its_task",
    ),
    Mutant(
        "release frees only what nobody else runs",
        ("release", "elseif again or last.final or (slot and slot.rid ~= '') then", "elseif again or last.final then"),
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
            'slot, status = self.pool.slots.get(c.holder) or _Slot(c.token, 0, "r", 0, 0, 0, ""), "lost"',
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
        ("_Last(not again, token, status, heirs)", "_Last(False, token, status, heirs)"),
        "test_a_late_copy_of_a_task_that_has_ended_is_dropped",
    ),
    Mutant(
        "no tombstone for what shall run again",
        (
            "release",
            "bury(DONE, life, status, token, heirs, not again)",
            "bury(DONE, life, status, token, heirs, true)",
        ),
        ("_Last(not again, token, status, heirs)", "_Last(True, token, status, heirs)"),
        "test_a_task_that_shall_run_again_leaves_no_tombstone",
    ),
    Mutant(
        "a tombstone remembers the heirs",
        (
            "release",
            "bury(DONE, life, status, token, heirs, not again)",
            "bury(DONE, life, status, token, {}, not again)",
        ),
        ("_Last(not again, token, status, heirs)", "_Last(not again, token, status, ())"),
        "test_a_release_that_is_sent_again_is_answered_the_same",
    ),
    Mutant(
        "heirs that have started are not named again",
        ("common", "if slot and slot.rid == '' and slot.token == heirs[i + 1] then", "if true then"),
        ("return not slot.rid and slot.token == token", "return True"),
        "test_a_release_that_is_sent_again_does_not_name_heirs_that_have_started",
    ),
    Mutant(
        "a newcomer goes behind those who wait",
        ("acquire", "elseif queued == 0 and held < limit then", "elseif held < limit then"),
        ("elif not pool.queue and len(pool.slots) < pool.limit:", "elif len(pool.slots) < pool.limit:"),
        "test_nobody_overtakes_those_who_wait",
    ),
    Mutant(
        "the limit is a limit",
        ("acquire", "elseif queued == 0 and held < limit then", "elseif queued == 0 and held <= limit then"),
        ("and len(pool.slots) < pool.limit:", "and len(pool.slots) <= pool.limit:"),
        "test_a_full_pool_refuses_who_cannot_wait",
    ),
    Mutant(
        "a heir has its slot before it starts",
        ("common", "put_slot(holder, now + start, token, oldest[i + 1], '', '0', '')", ""),
        ('self.put(holder, _Slot(token, place, "", deadline, 0, self.now, ""))', "pass"),
        "test_sweep_gives_the_slot_of_a_dead_run_to_the_oldest",
    ),
    Mutant(
        "a standby's message is kept",
        ("acquire", "call('HSETNX', TICKETS, holder, envelope)", ""),
        ("pool.tickets.setdefault(c.holder, c.envelope)", "pass"),
        "test_a_standby_runs_when_the_run_dies",
    ),
    Mutant(
        "the first message of a holder is the one kept",
        ("acquire", "call('HSETNX', TICKETS, holder, envelope)", "call('HSET', TICKETS, holder, envelope)"),
        ("pool.tickets.setdefault(c.holder, c.envelope)", "pool.tickets[c.holder] = c.envelope"),
        "test_a_third_delivery_does_not_replace_the_message_that_is_kept",
    ),
    Mutant(
        "sweep fills free slots",
        ("sweep", "local heirs = reserve(held, tonumber(ARGV[3]) * 1000)", "local heirs = {}"),
        ('return self.reply("swept", 0, heirs=self.reserve(command.start_ms))', 'return self.reply("swept", 0)'),
        "test_a_raised_limit_is_filled_by_the_next_sweep",
    ),
    Mutant(
        "a ticket keeps its place once",
        ("common", "if place % 1 ~= 0 then place = draw() end", "place = draw()"),
        ("(self.draw() if place % 1 else place) + 0.5", "self.draw() + 0.5"),
        "test_a_heir_that_does_not_start_in_time_is_offered_again",
    ),
    Mutant(
        "a ticket keeps its place no more than once",
        ("common", "if place % 1 ~= 0 then place = draw() end", "place = math.floor(place)"),
        ("(self.draw() if place % 1 else place) + 0.5", "place // 1 + 0.5"),
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
        ("        pool.queue.pop(c.holder, None)\n", ""),
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
]
EARLIEST = ("if self.now <= pool.earliest:", "if False:")  # the short cut would hide a mutant of what it cuts short


def broken_script(mutant: Mutant) -> object:
    """`scripts.script`, with the mutant's text."""
    file, text, broken = mutant.lua

    def script(name: str) -> scripts.Script:
        folder = files("cachify_tasks").joinpath("_lua")
        parts = {part: folder.joinpath(f"{part}.lua").read_text("utf-8") for part in ("common", name)}
        if file in parts:
            assert parts[file].count(text) == 1, f"{file}.lua has changed: mend the mutant"
            parts[file] = parts[file].replace(text, broken)
        code = "\n".join(parts.values())
        return scripts.Script(
            code, "0" * 40, scripts.script("size").head.replace(scripts.script("size").sha.encode(), b"0" * 40)
        )

    return script


def broken_memory(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> type[memory.MemoryStore]:
    """MemoryStore, with the mutant's text."""
    source = files("cachify_tasks").joinpath("_io", "memory.py").read_text("utf-8")
    text, broken = mutant.python
    assert source.count(text) == 1, "memory.py has changed: mend the mutant"
    module = types.ModuleType("cachify_tasks._io.mutant")
    module.__package__ = "cachify_tasks._io"
    monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look there
    exec(compile(source.replace(*EARLIEST).replace(text, broken), "mutant", "exec", dont_inherit=True), vars(module))
    made: type[memory.MemoryStore] = module.MemoryStore
    return made


@pytest.mark.leaks("keys", reason="a broken script may leave anything")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_a_broken_rule_in_lua_fails_a_test(mutant, redis_url, monkeypatch):
    killer = getattr(test_stores, mutant.killer)
    with opened("redis-sync", redis_url) as store:
        killer(store)
        store.forget()
        monkeypatch.setattr(redis_store, "script", broken_script(mutant))

        with pytest.raises(AssertionError, match="assert"):
            killer(store)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_a_broken_rule_in_memory_fails_a_test(mutant, monkeypatch):
    killer = getattr(test_stores, mutant.killer)
    with opened("memory-sync") as whole:
        killer(whole)

    with (
        opened("memory-sync", memory=broken_memory(mutant, monkeypatch)) as broken,
        pytest.raises(AssertionError, match="assert"),
    ):
        killer(broken)
