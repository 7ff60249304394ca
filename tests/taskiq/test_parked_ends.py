"""However the run of a parked task ends: its message has left the store, or is back in the queue and runs again."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from taskiq import Context, SimpleRetryMiddleware, TaskiqDepends, TaskiqMiddleware

from cachify_tasks import Park, current_slot, pooled
from tests.support.waiting import await_until
from tests.taskiq.conftest import Bench, running

HOOKS = ["pre_execute", "post_execute", "post_save", "on_error"]
Failing = Callable[[], None]


@pytest.fixture(autouse=True)
def no_breath(monkeypatch):
    """A task that returned to its queue may run again at once."""
    monkeypatch.setattr("cachify_tasks._worker.loop_gate.BREATH", 0.0)


class Once(TaskiqMiddleware):
    """Raises in one of its hooks, the first time that it is called for the task of the test."""

    def __init__(self, hook: str) -> None:
        super().__init__()
        self.hook = hook
        self.raised = 0

    def _at(self, hook: str, message: Any) -> None:
        if hook == self.hook and message.task_name == "ends" and not self.raised:
            self.raised += 1
            raise RuntimeError(f"{hook} is broken")

    def pre_execute(self, message: Any) -> Any:
        self._at("pre_execute", message)
        return message

    def post_execute(self, message: Any, *_: Any) -> None:
        self._at("post_execute", message)

    def post_save(self, message: Any, *_: Any) -> None:
        self._at("post_save", message)

    def on_error(self, message: Any, *_: Any) -> None:
        self._at("on_error", message)


def counted(bench: Bench, ran: list[int], *, error: bool = False, **labels: Any) -> Any:
    @bench.broker.task("ends", **labels)
    @pooled(key="p", max_size=1, on_full=Park())
    async def ends() -> int:
        assert (current_slot().key, bench.held()) == ("p", 1)
        ran.append(1)
        if error:
            raise ValueError("no")
        return len(ran)

    return ends


async def parked_run(bench: Bench, task: Any, **labels: Any) -> str:
    """The task waits behind another one, and gets its slot; its id."""
    async with running(bench):
        sent = await bench.park(task, **labels)
        assert bench.is_kept(sent)
    return sent


async def nothing_left(bench: Bench, sent: str) -> None:
    await bench.wait_free()
    assert not bench.is_kept(sent)


@pytest.mark.parametrize("policy", ["when_received", "when_executed", "when_saved"])
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("first", [True, False], ids=["before ours", "after ours"])
async def test_it_runs_again_when_a_hook_raises_before_its_message_is_acknowledged(make_bench, hook, first, policy):
    once = Once(hook)
    bench = make_bench(*([once, None] if first else [None, once]))
    ran: list[int] = []
    acked_before = {
        "when_received": ["post_execute", "post_save", "on_error"],
        "when_executed": ["post_execute", "post_save"],
        "when_saved": ["post_save"],  # Taskiq logs what is raised there, and goes on
    }[policy]

    sent = await parked_run(bench, counted(bench, ran, error=hook == "on_error", ack_type=policy))

    await await_until(lambda: once.raised)
    if hook not in acked_before or hook == "post_save":
        await bench.result(sent)
    await nothing_left(bench, sent)
    runs = 1 if hook in acked_before or hook == "pre_execute" else 2
    assert (len(ran), once.raised) == (runs, 1)


async def test_it_runs_again_when_the_teardown_of_a_dependency_raises(bench):
    ran: list[int] = []

    async def dependency() -> Any:
        yield len(ran)
        if len(ran) == 1:
            raise RuntimeError("teardown")

    @bench.broker.task("ends")
    @pooled(key="p", max_size=1)
    async def ends(before: Annotated[int, TaskiqDepends(dependency)]) -> int:
        ran.append(1)
        return before

    sent = await parked_run(bench, ends)

    assert (await bench.result(sent)).return_value == 1
    await nothing_left(bench, sent)


@pytest.mark.parametrize("label", ["sometimes", 5])
async def test_an_unknown_ack_type_keeps_it_in_the_queue_and_others_of_the_pool_go_on(bench, label):
    ran: list[int] = []
    task = counted(bench, ran)

    async with running(bench):
        bad = await bench.park(task, ack_type=label)
        good = await bench.park(task)

    assert (await bench.result(good)).return_value == 1
    assert bench.is_kept(bad)
    assert bad not in bench.results.results


async def test_an_error_is_its_result_and_nothing_is_left(bench):
    sent = await parked_run(bench, counted(bench, [], error=True))

    assert repr((await bench.result(sent)).error) == "ValueError('no')"
    await nothing_left(bench, sent)


async def test_a_coroutine_that_times_out_leaves_nothing(bench):
    @bench.broker.task("ends", timeout=0.01)
    @pooled(key="p", max_size=1)
    async def ends() -> None:
        await asyncio.Event().wait()

    sent = await parked_run(bench, ends)

    assert isinstance((await bench.result(sent)).error, TimeoutError)
    await nothing_left(bench, sent)


async def test_a_thread_that_outlives_its_timeout_keeps_its_slot_and_leaves_nothing(bench):
    go = threading.Event()

    @bench.broker.task("ends", timeout=0.01)
    @pooled(key="p", max_size=1)
    def ends() -> None:
        go.wait(60)

    sent = await parked_run(bench, ends)

    try:
        assert isinstance((await bench.result(sent)).error, TimeoutError)
        (holder,) = bench.view().holders
        assert holder.holder.startswith(sent)
    finally:
        go.set()
    await nothing_left(bench, sent)


@pytest.mark.parametrize("policy", ["when_executed", "when_saved"])
async def test_a_result_backend_that_fails_leaves_nothing_where_taskiq_acknowledges_all_the_same(bench, policy):
    ran: list[int] = []
    saved = bench.results.set_result

    async def set_result(task_id: str, result: Any) -> None:
        if ran:
            raise ConnectionError("no results")
        await saved(task_id, result)

    bench.results.set_result = set_result
    sent = await parked_run(bench, counted(bench, ran, ack_type=policy))

    await await_until(lambda: ran)
    await nothing_left(bench, sent)
    assert len(ran) == 1


@pytest.mark.parametrize("acks", [True, False], ids=["acknowledges", "does not"])
async def test_it_runs_again_until_it_has_acknowledged_its_message_by_hand(bench, acks):
    ran = []

    @bench.broker.task("ends", ack_type="manual")
    @pooled(key="p", max_size=1)
    async def ends(context: Annotated[Context, TaskiqDepends()]) -> int:
        ran.append(1)
        if acks or len(ran) == 3:
            await context.ack()
        return len(ran)

    sent = await parked_run(bench, ends)

    await await_until(lambda: len(ran) == (1 if acks else 3))
    await nothing_left(bench, sent)
    assert len(ran) == (1 if acks else 3)


async def test_one_that_does_not_acknowledge_its_message_does_not_run_again_without_end(bench, monkeypatch):
    monkeypatch.setattr("cachify_tasks._worker.loop_gate.BREATH", 3600)
    ran: list[int] = []
    sent = await parked_run(bench, counted(bench, ran, ack_type="manual"))
    await bench.result(sent)

    following = await bench.park(counted(bench, ran))  # the pool is still full: its slot has a breath

    assert (ran, bench.is_kept(sent), bench.is_kept(following)) == ([1], True, True)
    assert bench.held() == 1
    for task in bench.callbacks:
        task.cancel()


async def test_a_callback_that_is_cancelled_ends_the_parked_task_that_runs_in_it(bench):
    begun = asyncio.Event()

    @bench.broker.task("ends")
    @pooled(key="p", max_size=1)
    async def ends() -> None:
        begun.set()
        await asyncio.Event().wait()

    sent = await parked_run(bench, ends)
    await begun.wait()
    bench.callbacks[0].cancel()  # its own task has ended, and the heir runs in its place

    assert isinstance((await bench.result(sent)).error, asyncio.CancelledError)
    await nothing_left(bench, sent)


async def test_its_retry_is_an_attempt_that_waits_for_the_same_slot(make_bench):
    bench = make_bench(None, SimpleRetryMiddleware(default_retry_count=2, default_retry_label=True))
    holders = []

    @bench.broker.task("ends")
    @pooled(key="p", max_size=1)
    async def ends() -> str:
        holders.append(current_slot().holder.partition("#")[0])
        if len(holders) == 1:
            raise ValueError("again")
        return "done"

    sent = await parked_run(bench, ends)
    await await_until(lambda: bench.broker.sent)
    bench.arrive()

    assert (await bench.result(sent)).return_value == "done"
    assert holders == [f"{sent}:0", f"{sent}:1"]
    await nothing_left(bench, sent)


async def test_it_may_requeue_itself(bench):
    holders = []

    @bench.broker.task("ends")
    @pooled(key="p", max_size=1)
    async def ends(context: Annotated[Context, TaskiqDepends()]) -> str:
        holders.append(current_slot().holder.partition("#")[0])
        if len(holders) == 1:
            await context.requeue()
        return "done"

    sent = await parked_run(bench, ends)
    await await_until(lambda: bench.broker.sent)
    bench.arrive()

    assert (await bench.result(sent)).return_value == "done"
    assert holders == [f"{sent}:0", f"{sent}:0.1"]
    await nothing_left(bench, sent)


variable = contextvars.ContextVar("variable", default="unset")


async def test_it_sees_no_context_variable_of_the_task_in_whose_place_it_runs(bench):
    begun, go, seen = asyncio.Event(), asyncio.Event(), []

    @bench.broker.task("ends")
    @pooled(key="p", max_size=1)
    async def ends(number: int) -> None:
        seen.append(variable.get())
        variable.set(f"of {number}")
        begun.set()
        await go.wait()

    await bench.send(ends, 1)
    await begun.wait()
    sent = [await bench.park(ends, number) for number in (2, 3)]
    go.set()

    for one in sent:
        await bench.result(one)
    assert seen == ["unset"] * 3
