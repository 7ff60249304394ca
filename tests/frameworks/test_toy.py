"""The toy itself: that it is small and stands on `_worker` alone, and what the suite of all frameworks does not ask."""

from pathlib import Path

import pytest

from cachify_tasks import current_slot, pooled
from cachify_tasks._core.commands import Inspect
from cachify_tasks._runtime.runtime import Runtime
from cachify_tasks._store.memory_store import MemoryStore
from cachify_tasks.settings import Settings
from tests.support.waiting import wait_until
from tests.toy import runner
from tests.toy.runner import RETRY, Toy, ToyWorker


@pytest.fixture
def toy():
    """Three attempts of a task, and a pool whose key none of its arguments make."""
    attempts = []

    @pooled(key="{key}", max_size=1)
    def flaky(key, failures):
        attempts.append(current_slot().holder)
        return RETRY if len(attempts) <= failures else attempts

    @pooled(key="user-{key.name}", max_size=1)
    def nameless(key):
        raise AssertionError("it has no key")

    def free(key):
        return key

    tasks = {"flaky": flaky, "nameless": nameless, "free": free}
    toy = Toy(Runtime(MemoryStore(), Settings()), tasks, [], {}, set())
    workers = [ToyWorker(toy, 2) for _ in range(3)]
    yield toy
    for worker in workers:
        worker.stop()
        for thread in worker.threads:
            thread.join()


def end(toy, task_id):
    return wait_until(lambda: toy.ends[task_id][0] != "RETRY" and toy.ends[task_id] if task_id in toy.ends else None)


def test_each_attempt_of_a_task_holds_a_slot_of_its_own(toy):
    toy.messages.append({"id": "t", "task": "flaky", "args": ["p", 2]})

    assert end(toy, "t") == ("SUCCESS", ["t:0", "t:1", "t:2"])
    wait_until(lambda: toy.runtime.store.execute(Inspect("p")).holders == ())


def test_a_task_without_a_key_fails_alone_and_one_without_a_limit_runs(toy):
    toy.messages.extend(
        [{"id": "nameless", "task": "nameless", "args": [1]}, {"id": "free", "task": "free", "args": [7]}]
    )

    assert end(toy, "free") == ("SUCCESS", 7)
    state, error = end(toy, "nameless")
    assert (state, type(error)) == ("FAILURE", ValueError)


def test_the_toy_has_at_most_150_lines_and_knows_no_framework():
    text = Path(runner.__file__).read_text()

    assert len(text.splitlines()) <= 150
    assert "celery" not in text
