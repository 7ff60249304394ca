"""Tasks that the receiver runs in a process pool: they have their slots there."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from cachify_tasks import CachifyPoolFullError
from cachify_tasks._runtime.instances import set_global_runtime
from tests.support.waiting import PATIENCE_S, await_until
from tests.taskiq import process_tasks as tasks
from tests.taskiq.conftest import Bench, holding

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


class ProcessBench(Bench):
    async def send(self, task: Any, *args: Any, **labels: Any) -> str:
        sent = await task.kicker().with_broker(self.broker).with_labels(**labels).kiq(*args)
        self.arrive()
        return str(sent.task_id)

    async def value(self, task_id: str) -> Any:
        await await_until(lambda: task_id in self.results.results, PATIENCE_S)
        result = self.results.results[task_id]
        result.raise_for_error()
        return result.return_value


@pytest.fixture(params=["fork", "spawn"])
async def processes(request, redis_url, monkeypatch):
    """A bench with two processes."""
    monkeypatch.setenv("CACHIFY_URL", redis_url)
    set_global_runtime(None)
    bench = ProcessBench(
        executor=ProcessPoolExecutor(2, multiprocessing.get_context(request.param)), url=redis_url
    )  # fmt: skip
    bench.broker.local_task_registry.update(tasks.broker.local_task_registry)
    yield bench
    await bench.close()


async def test_a_task_has_its_slot_there(processes):
    sent = [await processes.send(tasks.slot_of, "p") for _ in range(3)]

    values = [await processes.value(one) for one in sent]
    assert [(key, lost) for key, _, lost in values] == [("p", False)] * 3
    assert len({token for _, token, _ in values}) == 3
    await processes.wait_free()


async def test_pooled_may_stand_above_the_task(processes):
    assert await processes.value(await processes.send(tasks.stacked)) == "p"
    await processes.wait_free()


async def test_a_task_that_is_parked_runs_there_when_the_one_before_it_ends(processes, tmp_path):
    first = await processes.send(tasks.waits, str(tmp_path), "first")
    await await_until((tmp_path / "first").exists, PATIENCE_S)
    second = await processes.park(tasks.waits, str(tmp_path), "second")

    assert not (tmp_path / "second").exists()
    (tmp_path / "go").touch()

    for sent in (first, second):
        assert await processes.value(sent) != os.getpid()
    await processes.wait_free()


async def test_one_that_outlives_its_timeout_keeps_its_slot_until_it_ends(processes, tmp_path):
    warm = await processes.send(tasks.slot_of, "other")  # a process is there
    await processes.value(warm)
    sent = await processes.send(tasks.waits, str(tmp_path), "begun", timeout=2)
    await await_until((tmp_path / "begun").exists)

    with pytest.raises(TimeoutError):
        await processes.value(sent)
    assert processes.held() == 1
    (tmp_path / "go").touch()
    await processes.wait_free()


async def test_one_whose_timeout_ends_before_a_process_is_free_for_it_frees_its_slot_then(processes, tmp_path):
    for number in range(6):  # two run, and a pool of two has sent three more to its processes
        processes.executor.submit(tasks.work, str(tmp_path), str(number))
    await await_until(lambda: (tmp_path / "0").exists() and (tmp_path / "1").exists(), PATIENCE_S)

    sent = await processes.send(tasks.waits, str(tmp_path), "begun", timeout=0.05)

    with pytest.raises(TimeoutError):
        await processes.value(sent)
    await processes.wait_free()
    (tmp_path / "go").touch()
    processes.executor.shutdown()
    assert not (tmp_path / "begun").exists()


async def test_a_full_pool_is_dealt_with_there(processes):
    async with holding(processes):
        with pytest.raises(CachifyPoolFullError, match="pool 'p' is full"):
            await processes.value(await processes.send(tasks.raises))
        key, pid = await processes.value(await processes.send(tasks.called, "p"))

    assert key == "p"
    assert pid != os.getpid()


async def test_a_task_that_calls_itself_there_makes_a_direct_call(processes):
    sent = await processes.send(tasks.calls_itself, "p", 2)

    assert await processes.value(sent) == ["p", "p+", "p++"]
    await processes.wait_free()


async def test_an_error_there_is_the_result(processes):
    sent = await processes.send(tasks.waits, "/nowhere/at/all", "begun")

    with pytest.raises(FileNotFoundError):
        await processes.value(sent)
    await processes.wait_free()
