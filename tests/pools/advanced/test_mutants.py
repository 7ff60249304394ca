"""Each rule of the wake-up and of the hand-off, broken on purpose, fails a test."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cachify_tasks
from tests.support.mutants import Mutant, mutate

PACKAGE = Path(cachify_tasks.__file__).parent
ROOT = Path(__file__).parents[3]
RUN = """
import asyncio, importlib, os, sys, threading, traceback
import pytest
from cachify_tasks import pools
assert pools.__file__.startswith(sys.argv[1]), pools.__file__
for each in sys.argv[3:]:
    watchdog = threading.Timer(float(sys.argv[2]), os._exit, [7])  # a lost wake-up: nobody comes
    watchdog.daemon = True
    watchdog.start()
    module, name = each.split("::")
    test = getattr(importlib.import_module(f"tests.pools.advanced.test_{module}"), name)
    try:
        found = test(pytest.MonkeyPatch()) if test.__code__.co_argcount else test()
        if asyncio.iscoroutine(found):
            asyncio.run(found)
    except BaseException:
        traceback.print_exc()
        os._exit(7)
    watchdog.cancel()
os._exit(0)
"""
KILLED, SURVIVED = 7, 0


MUTANTS = [
    Mutant(
        "who has ended something rings",
        "crew",
        "if self.outbox.ready or (self.watched and job is None):",
        "if False:",
        "calls::test_submit_gives_a_future",
    ),
    Mutant(
        "a place that is granted is told of",
        "outbox",
        "        if not self._called:\n            self.ring()",
        "",
        "life::test_wait_for_slot_waits_for_one_place",
    ),
    Mutant(
        "the flag is cleared before the batch is drained",
        "outbox",
        "        self._called = False  # first: what is put from now on rings again, and is not missed\n",
        "",
        "internals::test_what_is_put_while_the_loop_drains_is_told_too",
    ),
    Mutant(
        "what is left after a turn has another one",
        "outbox",
        "if ready and not self._called:",
        "if False:",
        "calls::test_other_callbacks_of_the_loop_have_their_turn_between_batches",
    ),
    Mutant(
        "a turn is bounded",
        "outbox",
        "TURN = 2_000",
        "TURN = 10**9",
        "calls::test_other_callbacks_of_the_loop_have_their_turn_between_batches",
    ),
    Mutant(
        "one wake-up is enough for a batch",
        "outbox",
        "        if self._called:\n            return\n        self._called = True",
        "",
        "calls::test_all_that_has_ended_is_told_in_one_wake_up",
    ),
    Mutant(
        "a closed loop is noticed",
        "outbox",
        "            self._orphaned()",
        "            pass",
        "life::test_a_loop_that_is_closed_first_leaves_nothing",
    ),
    Mutant(
        "a worker that is handed a job is woken",
        "crew",
        "                    worker.job = job\n                    worker.wake.release()",
        "                    worker.job = job",
        "workers::test_an_idle_worker_is_used_before_another_is_started",
    ),
    Mutant(
        "a worker that is woken has the job",
        "crew",
        "                    worker.job = job\n                    worker.wake.release()",
        "                    worker.wake.release()",
        "workers::test_an_idle_worker_is_used_before_another_is_started",
    ),
    Mutant(
        "a worker that is called as its time runs out takes the call",
        "crew",
        "            worker.wake.acquire()  # it",
        "            # it",
        "internals::test_a_worker_that_is_called_as_its_time_runs_out_takes_the_job_and_the_call",
    ),
    Mutant(
        "who has nothing to do tells it",
        "crew",
        "(self.watched and job is None)",
        "False",
        "life::test_drain_ends_when_what_was_left_is_cancelled_or_not_the_loop_s",
    ),
    Mutant(
        "a worker that takes a job frees a place for the line",
        "crew",
        "                        granted = self._advance() if self.line else ()",
        "                        pass",
        "calls::test_submitters_get_places_in_the_order_of_arrival",
    ),
    Mutant(
        "a job that is withdrawn frees a place for the line",
        "crew",
        "            self.cancelled += cancelled\n            granted = self._advance() if self.line else ()",
        "            self.cancelled += cancelled",
        "calls::test_queued_work_that_is_cancelled_is_not_run_and_its_place_is_free_at_once",
    ),
    Mutant(
        "a place that was told of and not taken goes on",
        "pool",
        "            loop.call_soon(self._crew.advance)",
        "            #",
        "life::test_a_place_that_was_told_of_and_not_taken_goes_to_the_next",
    ),
    Mutant(
        "nobody goes past the line",
        "crew",
        "(job.shared or (place is not None and self.line))",
        "job.shared",
        "life::test_a_place_that_was_told_of_is_not_taken_by_who_comes_later",
    ),
    Mutant(
        "a map calls workers",
        "crew",
        "            self._summon(job.size)",
        "            self._summon(1)",
        "maps::test_map_uses_all_workers",
    ),
    Mutant(
        "a map gives way to what is urgent",
        "spread",
        "or lanes.best < priority",
        "",
        "maps::test_something_more_urgent_goes_between_two_items",
    ),
    Mutant(
        "first in, first out",
        "lanes",
        "lane.append(entry)",
        "lane.appendleft(entry)",
        "calls::test_the_smaller_priority_runs_first_and_equals_in_the_order_of_arrival",
    ),
    Mutant(
        "withdrawn entries do not pile up",
        "lanes",
        "FEW = 64",
        "FEW = 10**9",
        "calls::test_many_cancelled_calls_leave_no_trace_in_the_queue",
    ),
    Mutant(
        "idle workers are woken for the end",
        "crew",
        "            self.line.clear()\n            for worker in self.idle:\n                worker.wake.release()",
        "            self.line.clear()",
        "workers::test_an_idle_worker_is_used_before_another_is_started",
    ),
    Mutant(
        "what runs when the time is over is cancelled",
        "ending",
        "        _drop(self.crew.running())",
        "",
        "life::test_total_timeout_waits_for_nothing_any_more",
    ),
    Mutant(
        "a lost worker is replaced",
        "crew",
        "                self._hire(None)\n        if job is not None",
        "                pass\n        if job is not None",
        "workers::test_a_worker_that_is_lost_is_replaced",
    ),
]


def copied(folder: Path, mutant: Mutant | None = None) -> Path:
    """A copy of the package, with the mutant's text."""
    copy = folder / "cachify_tasks"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    if mutant is not None:
        mutate(copy / "pools" / "advanced", mutant)
    return folder


def outcome(folder: Path, *killers: str, patience: float = 3) -> tuple[int, str]:
    """What tests say to a copy of the package."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-P", "-c", RUN, str(folder), str(patience), *killers],
        env=env, cwd=folder, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_a_broken_rule_fails_a_test(mutant, tmp_path):
    code, told = outcome(copied(tmp_path, mutant), mutant.killer)

    assert code == KILLED, told
    assert "SyntaxError" not in told


def test_the_killers_pass_when_nothing_is_broken(tmp_path):
    code, told = outcome(copied(tmp_path), *sorted({mutant.killer for mutant in MUTANTS}), patience=60)

    assert code == SURVIVED, told
