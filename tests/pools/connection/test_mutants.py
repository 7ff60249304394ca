"""Each rule of the pool, broken on purpose, fails a test of the suite."""

import asyncio
import inspect
import sys

import pytest

from cachify_tasks.pools import connection
from tests.support.mutants import Mutant, mutated, named

from . import kit, test_documented, test_failures, test_lending, test_maintenance, test_misuse, test_stop

SUITES = (test_documented, test_failures, test_misuse, test_stop, test_lending, test_maintenance)
ON_FAST_PATH = (
    "get_running_loop() is self._fast_path_loop"
    if sys.version_info >= (3, 12)
    else "get_ident() == self._fast_path_loop._thread_id"
)


MUTANTS = [
    Mutant(
        "a connection is handed to who waits",
        "connections", "        while queue:\n", "        while False:\n",
        "test_five_in_line_are_served_in_their_order",
    ),
    Mutant(
        "the short way of a release is closed while somebody waits",
        "lending", "if self._queue:", "if False:",
        "test_five_in_line_are_served_in_their_order", 2,
    ),
    Mutant(
        "the line is served from its front",
        "connections", "waiter, _, _ = queue.popleft()", "waiter, _, _ = queue.pop()",
        "test_five_in_line_are_served_in_their_order",
    ),
    Mutant(
        "who has left the line is passed over",
        "connections", "if waiter.done():", "if False:",
        "test_who_is_cancelled_in_line_is_passed_over",
    ),
    Mutant(
        "who has left the line is not counted",
        "lending", "            self._connections.waiters.on_done()\n        elif", "            pass\n        elif",
        "test_who_is_cancelled_in_line_is_passed_over",
    ),
    Mutant(
        "a connection that its waiter does not take any more goes on",
        "lending", "            self._connections.offer(record)", "            pass",
        "test_a_connection_handed_to_one_who_is_cancelled_goes_to_the_next",
    ),
    Mutant(
        "a waiter whose coroutine is closed is out of the line",
        "lending", "except BaseException:\n                    self", "except Exception:\n                    self",
        "test_a_waiter_whose_coroutine_is_closed_loses_no_connection", 2,
    ),
    Mutant(
        "a place that a failure frees wakes one who waits",
        "connections", "        self.serve()\n        self.notify_change()\n        return None", "        return None",
        "test_who_waits_behind_a_failed_factory_has_an_attempt_of_its_own",
    ),
    Mutant(
        "a failed making is not waited for any more",
        "connections", "        self.unexpect(expected)\n", "",
        "test_who_waits_behind_a_failed_factory_has_an_attempt_of_its_own",
    ),
    Mutant(
        "a place that a cleaner frees wakes one who waits",
        "connections", "        self.serve()\n        self.on_limits()", "        self.on_limits()",
        "test_a_place_that_a_retired_connection_frees_goes_to_who_waits",
    ),
    Mutant(
        "a refused connection is no longer counted on",
        "connections", "            self.serve()  # the acquire", "            pass  # the acquire",
        "test_one_sick_connection_among_healthy_ones_holds_up_nobody",
    ),
    Mutant(
        "a connection is released once, the long way",
        "lending", "connections.retiring.pop(key, None)\n        if", "connections.records.get(key)\n        if",
        "test_a_connection_can_be_released_once",
    ),
    Mutant(
        "a connection is released once, the short way",
        "lending", "self._lent.pop(id(conn), None)", "self._connections.records.get(id(conn))",
        "test_a_connection_can_be_released_once", 2,
    ),
    Mutant(
        "a lent connection is known as lent",
        "lending", "                    self._lent[record.key] = record", "                    pass",
        "test_acquire_lends_and_release_takes_back", 2,
    ),
    Mutant(
        "a block releases its own loan alone",
        "lending", " and record.lends == self._lends", "",
        "test_a_block_whose_connection_was_released_within_says_so",
    ),
    Mutant(
        "the loop is looked at, the short way",
        "lending", ON_FAST_PATH, "True",
        "test_a_loop_of_the_same_thread_that_only_rests_is_told_apart", 2,
    ),
    Mutant(
        "a place is taken before a connection is made",
        "connections", "        self.making += 1\n", "",
        "test_a_place_is_reserved_before_a_connection_is_made",
    ),
    Mutant(
        "a place is taken until the connection has been cleaned",
        "connections", "len(self.records) + self.making\n", "len(self.records) + self.making - self.cleaning\n",
        "test_the_place_of_a_connection_is_taken_until_it_has_been_cleaned",
    ),
    Mutant(
        "the limit is a limit",
        "connections", "len(self.expected) and self.total < self.maxsize:", "len(self.expected):",
        "test_a_place_is_reserved_before_a_connection_is_made",
    ),
    Mutant(
        "an idle connection is checked before it is lent",
        "lending", "if self._idle and self._options.healthchecker is None:", "if self._idle:",
        "test_an_unhealthy_connection_is_not_lent",
    ),
    Mutant(
        "a connection that came back is checked",
        "connections", "            return self.check(record, last)", "            pass",
        "test_an_unhealthy_connection_is_given_up_when_it_comes_back",
    ),
    Mutant(
        "what is to be retired is known when it comes back",
        "connections", "self.retiring[record.key] = record", "self.lent[record.key] = record",
        "test_drain_replaces_every_connection_and_waits_for_those_that_are_lent",
    ),
    Mutant(
        "a life ends",
        "connections", "record.usable and record.until <= now", "False",
        "test_an_idle_connection_whose_life_ends_is_replaced",
    ),
    Mutant(
        "a stop fails those who wait",
        "connections", "self.waiters.fail(shut_down_error)", "pass",
        "test_who_waits_when_the_pool_is_stopped_is_told",
    ),
    Mutant(
        "what is made after the stop is cleaned",
        "connections", "return record.usable and self.is_open and", "return record.usable and",
        "test_a_connection_that_is_being_made_is_cleaned_when_it_is_there",
    ),
    Mutant(
        "one object is one connection",
        "connections", "if id(conn) in self.records:", "if False:",
        "test_a_factory_that_gives_the_same_object_twice_is_refused",
    ),
    Mutant(
        "the factory pauses after a failure",
        "connections", "and self._backoff is None and not", "and not",
        "test_an_acquire_is_not_held_up_by_the_pause_after_a_failure",
    ),
]  # fmt: skip


def run(killer, seconds):
    """Run the test; one that waits for ever has failed."""
    world = kit.World()

    async def bounded():
        async with asyncio.timeout(seconds):
            await killer(world)
        await kit.turns()
        assert not world.open

    if inspect.iscoroutinefunction(killer):
        asyncio.run(bounded())
    else:
        killer(world)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_a_broken_rule_fails_a_test(mutant, tmp_path, monkeypatch):
    killer = named(mutant.killer, SUITES)
    run(killer, 10)
    with mutated(connection, mutant, tmp_path) as broken:
        monkeypatch.setattr(kit, "ConnectionPool", broken.ConnectionPool)
        monkeypatch.setattr(broken.timed_call, "SLOW_S", 60)

        with pytest.raises((Exception, pytest.fail.Exception)):  # however it fails
            run(killer, 0.5)
