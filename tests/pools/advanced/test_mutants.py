"""Each rule of waking and handing over is broken on purpose; a test must fail."""

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
    watchdog = threading.Timer(float(sys.argv[2]), os._exit, [7])  # a lost wake-up: the test waits for ever
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
        "a worker that has ended a call notifies the loop",
        "scheduler",
        "if self.completions.ready or (self.completions.watched and job is None):",
        "if False:",
        "calls::test_submit_gives_a_future",
    ),
    Mutant(
        "a caller whose slot is free is woken",
        "scheduler",
        "        if self.completions.ready or self.completions.watched:\n",
        "        if self.completions.watched:\n",
        "life::test_wait_for_slot_waits_for_one_slot",
    ),
    Mutant(
        "the flag is cleared before the batch is delivered",
        "completions",
        "        self._scheduled = False  # first: an outcome that is put from now on wakes the loop again\n",
        "",
        "internals::test_a_put_while_the_loop_delivers_is_delivered_too",
    ),
    Mutant(
        "the rest of a batch is delivered in the next iteration",
        "completions",
        "if ready and not self._scheduled:",
        "if False:",
        "calls::test_other_callbacks_of_the_loop_run_between_batches",
    ),
    Mutant(
        "an iteration delivers a bounded number",
        "completions",
        "MAX_PER_ITERATION = 2_000",
        "MAX_PER_ITERATION = 10**9",
        "calls::test_other_callbacks_of_the_loop_run_between_batches",
    ),
    Mutant(
        "one wake-up is enough for a batch",
        "completions",
        "        if self._scheduled:\n            return\n        self._scheduled = True",
        "",
        "calls::test_one_wake_up_delivers_a_whole_batch",
    ),
    Mutant(
        "a closed loop is noticed",
        "completions",
        "            self._on_loop_closed()",
        "            pass",
        "life::test_a_loop_that_is_closed_first_leaves_nothing",
    ),
    Mutant(
        "a worker that gets a job is woken",
        "scheduler",
        "                    worker.job = job\n                    worker.wake.release()",
        "                    worker.job = job",
        "workers::test_an_idle_worker_is_used_before_another_is_started",
    ),
    Mutant(
        "a worker that is woken has the job",
        "scheduler",
        "                    worker.job = job\n                    worker.wake.release()",
        "                    worker.wake.release()",
        "workers::test_an_idle_worker_is_used_before_another_is_started",
    ),
    Mutant(
        "a worker that is woken as its time runs out takes the wake-up",
        "scheduler",
        "                worker.wake.acquire()  # another",
        "                # another",
        "internals::test_a_worker_that_is_woken_as_its_time_runs_out_takes_the_job_and_the_wake_up",
    ),
    Mutant(
        "a worker without a job notifies the watchers",
        "scheduler",
        "(self.completions.watched and job is None)",
        "False",
        "life::test_drain_ends_when_the_last_calls_are_cancelled_or_come_from_the_executor",
    ),
    Mutant(
        "a worker that takes a job frees a slot for the line",
        "scheduler",
        "                if self.line:\n                    self._admit()",
        "                pass",
        "calls::test_submitters_get_slots_in_the_order_of_arrival",
    ),
    Mutant(
        "a job that is withdrawn frees a slot for the line",
        "scheduler",
        "            self.cancelled += cancelled\n            self._admit()",
        "            self.cancelled += cancelled",
        "calls::test_a_queued_call_that_is_cancelled_is_not_run_and_its_slot_is_free_at_once",
    ),
    Mutant(
        "an announced slot that is not used goes on",
        "pool",
        "            loop.call_soon(self._scheduler.admit)",
        "            #",
        "life::test_a_slot_that_is_announced_and_not_used_goes_to_the_next_in_line",
    ),
    Mutant(
        "no caller overtakes the line",
        "scheduler",
        "if not job.shared and not behind_others:",
        "if not job.shared:",
        "life::test_an_announced_slot_is_not_taken_by_a_later_caller",
    ),
    Mutant(
        "a map calls workers",
        "scheduler",
        "            self._call_workers(job.size)",
        "            self._call_workers(1)",
        "maps::test_map_uses_all_workers",
    ),
    Mutant(
        "a map gives way to a more urgent call",
        "jobs",
        "or queue.best < priority",
        "",
        "maps::test_a_more_urgent_call_runs_between_two_items",
    ),
    Mutant(
        "first in, first out",
        "priority_queue",
        "lane.append(entry)",
        "lane.appendleft(entry)",
        "calls::test_the_smaller_priority_runs_first_and_equals_in_the_order_of_arrival",
    ),
    Mutant(
        "withdrawn entries do not pile up",
        "priority_queue",
        "COMPACT_AT = 64",
        "COMPACT_AT = 10**9",
        "calls::test_many_cancelled_calls_leave_no_trace_in_the_queue",
    ),
    Mutant(
        "a shutdown wakes idle workers",
        "scheduler",
        "        self.line.clear()\n        self._wake_idle()",
        "        self.line.clear()",
        "workers::test_an_idle_worker_is_used_before_another_is_started",
    ),
    Mutant(
        "a call that still runs when the time is over is cancelled",
        "shutdown",
        "        for job in self.scheduler.running():",
        "        for job in ():",
        "life::test_total_timeout_cancels_running_calls_too",
    ),
    Mutant(
        "a worker that crashes is replaced",
        "scheduler",
        "                self._start_worker()\n        if job is not None",
        "                pass\n        if job is not None",
        "workers::test_a_worker_that_crashes_is_replaced",
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
    """The exit code and the stderr of tests that run against a copy of the package."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-P", "-c", RUN, str(folder), str(patience), *killers],
        env=env, cwd=folder, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_a_broken_rule_fails_a_test(mutant, tmp_path):
    code, stderr = outcome(copied(tmp_path, mutant), mutant.killer)

    assert code == KILLED, stderr
    assert "SyntaxError" not in stderr


def test_the_killers_pass_when_nothing_is_broken(tmp_path):
    code, stderr = outcome(copied(tmp_path), *sorted({mutant.killer for mutant in MUTANTS}), patience=60)

    assert code == SURVIVED, stderr
