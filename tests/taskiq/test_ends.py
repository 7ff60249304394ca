"""However a run ends, its slot is freed then and not before, and its message is dealt with."""

import asyncio
import threading
from concurrent.futures import ProcessPoolExecutor
from typing import Annotated, Any

import pytest
from taskiq import Context, SimpleRetryMiddleware, TaskiqDepends, TaskiqMiddleware

from cachify_tasks import Park, current_slot, pooled
from cachify_tasks._core.commands import Find
from tests.support.waiting import await_until
from tests.taskiq.conftest import Bench, holding


class Broken(TaskiqMiddleware):
    """Raises in one of its hooks."""

    def __init__(self, hook: str) -> None:
        super().__init__()

        async def broken(*_: Any) -> None:
            raise RuntimeError(f"{hook} is broken")

        setattr(type(self), hook, broken)


def broken(hook: str) -> TaskiqMiddleware:
    cls: type[Broken] = type("Broken", (Broken,), {})
    return cls(hook)


def works(bench: Bench) -> Any:
    @bench.broker.task("works")
    @pooled(key="p", max_size=1, on_full=Park())
    async def works(error: str = "") -> str:
        assert bench.held() == 1
        if error:
            raise ValueError(error)
        return current_slot().key

    return works


async def test_a_slot_is_held_while_the_task_runs_and_free_after_it(bench):
    sent = await bench.send(works(bench))

    assert (await bench.result(sent)).return_value == "p"
    await bench.wait_free()
    assert len(bench.acked) == 1


async def test_an_error_frees_the_slot_and_is_the_result(bench):
    sent = await bench.send(works(bench), "no")

    assert repr((await bench.result(sent)).error) == "ValueError('no')"
    await bench.wait_free()


HOOKS = ["pre_execute", "post_execute", "post_save", "on_error"]


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("first", [True, False], ids=["before ours", "after ours"])
async def test_a_middleware_that_raises_keeps_no_slot(make_bench, hook, first):
    bench = make_bench(*([broken(hook), None] if first else [None, broken(hook)]))
    await works(bench).kiq("no" if hook == "on_error" else "")

    if hook == "post_save":  # Taskiq logs that
        await bench.arrive()
    else:
        with pytest.raises(RuntimeError, match=f"{hook} is broken"):
            await bench.arrive()

    await bench.wait_free()
    assert len(bench.acked) == (hook == "post_save")  # as without us: else the broker may deliver it again


async def test_a_run_whose_message_was_not_acknowledged_runs_again_when_it_is_delivered_again(make_bench):
    bench = make_bench(None, broken("post_execute"))
    await works(bench).kiq()
    (data,) = bench.broker.sent

    for _ in range(2):
        with pytest.raises(RuntimeError):
            await bench.arrive(data)

    await bench.wait_free()


async def test_a_late_copy_of_a_run_that_has_ended_is_acknowledged_and_not_run(bench):
    ran = []

    @bench.broker.task("once")
    @pooled(key="p", max_size=1)
    async def once() -> None:
        ran.append(1)

    await once.kiq()
    (data,) = bench.broker.sent
    await bench.arrive(data)

    await bench.arrive(data)

    assert (len(ran), len(bench.acked)) == (1, 2)


async def test_a_copy_of_a_running_task_is_acknowledged_and_stands_by(bench):
    go, ran = asyncio.Event(), []

    @bench.broker.task("slow")
    @pooled(key="p", max_size=2)
    async def slow() -> None:
        ran.append(1)
        await go.wait()

    await slow.kiq()
    (data,) = bench.broker.sent
    first = bench.arrive(data)
    await await_until(lambda: len(ran) == 1)

    await bench.arrive(data)

    assert (len(ran), len(bench.acked)) == (1, 1)
    go.set()
    await first
    await bench.wait_free()
    assert len(ran) == 1


async def test_a_dependency_whose_teardown_raises_keeps_no_slot(bench):
    async def dependency() -> Any:
        yield 1
        raise RuntimeError("teardown")

    @bench.broker.task("depends")
    @pooled(key="p", max_size=1)
    async def depends(value: Annotated[int, TaskiqDepends(dependency)]) -> int:
        return value

    await depends.kiq()
    with pytest.raises(RuntimeError, match="teardown"):
        await bench.arrive()

    await bench.wait_free()


async def test_an_acknowledgement_that_fails_keeps_no_slot(bench):
    bench.ack_error = ConnectionError("no broker")
    await works(bench).kiq()

    with pytest.raises(ConnectionError):
        await bench.arrive()

    await bench.wait_free()


async def test_an_unknown_ack_type_keeps_no_slot(bench):
    await works(bench).kicker().with_labels(ack_type="sometimes").kiq()

    with pytest.raises(ValueError, match="ack_type"):
        await bench.arrive()

    await bench.wait_free()


@pytest.mark.parametrize("policy", ["when_received", "when_executed", "when_saved"])
async def test_a_message_is_acknowledged_when_its_policy_says(bench, policy):
    acked = []

    @bench.broker.task("watches", ack_type=policy)
    @pooled(key="p", max_size=1)
    async def watches() -> None:
        acked.append(len(bench.acked))

    sent = await bench.send(watches)

    await bench.result(sent)
    assert acked == [int(policy == "when_received")]
    await await_until(lambda: len(bench.acked) == 1)


async def test_a_task_acknowledges_its_message_by_hand(bench):
    @bench.broker.task("by_hand", ack_type="manual")
    @pooled(key="p", max_size=1)
    async def by_hand(context: Annotated[Context, TaskiqDepends()]) -> bool:
        await context.ack()
        return context.is_acked

    sent = await bench.send(by_hand)

    assert (await bench.result(sent)).return_value is True
    assert len(bench.acked) == 1


@pytest.mark.parametrize("policy", ["when_received", "when_executed", "when_saved", "manual"])
async def test_a_parked_message_is_acknowledged_at_once_and_leaves_the_store_by_its_policy(bench, policy):
    begun, go = asyncio.Event(), asyncio.Event()

    @bench.broker.task("acks", ack_type=policy)
    @pooled(key="p", max_size=1)
    async def acks(context: Annotated[Context, TaskiqDepends()]) -> None:
        if policy == "manual":
            await context.ack()
        begun.set()
        await go.wait()

    def is_kept() -> bool:
        return bool(bench.middleware.runtime.store.execute(Find("p", (sent,))))

    async with holding(bench):
        sent = await bench.park(acks)
        assert len(bench.acked) == 1
        assert is_kept()
    await begun.wait()

    if policy in ("when_received", "manual"):
        await await_until(lambda: not is_kept())
    assert is_kept() == (policy in ("when_executed", "when_saved"))
    go.set()
    assert not (await bench.result(sent)).is_err
    await bench.wait_free()


async def test_a_retry_runs_while_the_first_attempt_still_has_its_slot(make_bench):
    bench = make_bench(None, SimpleRetryMiddleware(default_retry_count=3, default_retry_label=True))
    holders = []

    @bench.broker.task("retries")
    @pooled(key="p", max_size=2)
    async def retries() -> int:
        holders.append(current_slot().holder.partition("#")[0])
        if len(holders) < 3:
            raise ValueError("again")
        return len(holders)

    sent = await bench.send(retries)
    for _ in range(2):
        await await_until(lambda: bench.broker.sent)
        bench.arrive()

    assert (await bench.result(sent)).return_value == 3
    assert holders == [f"{sent}:0", f"{sent}:1", f"{sent}:2"]
    await bench.wait_free()


async def test_a_requeued_task_is_another_attempt(bench):
    holders = []

    @bench.broker.task("requeues")
    @pooled(key="p", max_size=1)
    async def requeues(context: Annotated[Context, TaskiqDepends()]) -> str:
        holders.append(current_slot().holder.partition("#")[0])
        if len(holders) == 1:
            await context.requeue()
        return "done"

    sent = await bench.send(requeues)
    await await_until(lambda: bench.broker.sent)
    bench.arrive()

    assert (await bench.result(sent)).return_value == "done"
    assert holders == [f"{sent}:0", f"{sent}:0.1"]
    await bench.wait_free()


async def test_a_coroutine_that_times_out_frees_its_slot(bench):
    @bench.broker.task("late", timeout=0.01)
    @pooled(key="p", max_size=1)
    async def late() -> None:
        await asyncio.Event().wait()

    sent = await bench.send(late)

    assert isinstance((await bench.result(sent)).error, TimeoutError)
    await bench.wait_free()


async def test_a_thread_that_outlives_its_timeout_keeps_its_slot_until_it_ends(bench):
    go = threading.Event()

    @bench.broker.task("outlives", timeout=0.01)
    @pooled(key="p", max_size=1)
    def outlives() -> None:
        go.wait(60)

    sent = await bench.send(outlives)
    following = await bench.park(works(bench))

    assert isinstance((await bench.result(sent)).error, TimeoutError)
    assert (bench.held(), bench.parked()) == (1, 1)
    go.set()
    assert (await bench.result(following)).return_value == "p"
    await bench.wait_free()


async def test_a_callback_that_is_cancelled_keeps_no_slot(bench):
    started = asyncio.Event()

    @bench.broker.task("endless")
    @pooled(key="p", max_size=1)
    async def endless() -> None:
        started.set()
        await asyncio.Event().wait()

    await endless.kiq()
    callback = bench.arrive()
    await started.wait()
    callback.cancel()

    await bench.wait_free()
    await asyncio.wait([callback])


@pooled(key="{key}", max_size=1)
def in_a_process(key: str) -> tuple[str, int]:
    return current_slot().key, current_slot().token


async def test_a_task_in_a_process_pool_runs_in_its_slot(make_bench, redis_url):
    bench = make_bench(executor=ProcessPoolExecutor(1), url=redis_url)
    task = bench.broker.register_task(in_a_process, task_name="in_a_process")

    sent = [await bench.send(task, "p") for _ in range(3)]

    results = [(await bench.result(one)).return_value for one in sent]
    assert [key for key, _ in results] == ["p"] * 3
    assert len({token for _, token in results}) == 3
    await bench.wait_free()


async def test_a_parked_task_whose_framework_breaks_off_returns_to_its_queue(make_bench, monkeypatch):
    monkeypatch.setattr("cachify_tasks._worker.loop_gate.BREATH", 0.01)
    failing = broken("post_execute")
    bench = make_bench(None, failing)
    ran = []

    @bench.broker.task("twice")
    @pooled(key="p", max_size=1)
    async def twice() -> None:
        ran.append(1)
        if len(ran) == 2:
            type(failing).post_execute = TaskiqMiddleware.post_execute  # type: ignore[method-assign]

    async with holding(bench):
        sent = await bench.park(twice)

    await bench.result(sent)
    assert len(ran) == 2
    await bench.wait_free()


async def test_a_message_without_acknowledgement_runs_in_its_slot_too(bench):
    task = works(bench)
    sent = await task.kiq()
    bench.arrive(ackable=False)

    assert (await bench.result(sent.task_id)).return_value == "p"
    await bench.wait_free()


async def test_what_taskiq_cannot_read_or_does_not_know_is_left_to_it(bench):
    works(bench)
    await bench.arrive(b"no message")

    assert bench.acked == [b"no message"]


async def test_a_receiver_that_has_ended_and_listens_again_has_a_gate_that_takes_up_tasks(bench):
    ended = bench.gate
    await ended.close(None)

    sent = await bench.send(works(bench))

    assert (await bench.result(sent)).return_value == "p"
    assert bench.gate is not ended
    assert bench.gate.accepting
