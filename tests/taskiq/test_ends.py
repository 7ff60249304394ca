"""However a run ends, its slot is freed then and not before, and its message is dealt with."""

import asyncio
import threading
from typing import Annotated, Any

import pytest
from taskiq import Context, SimpleRetryMiddleware, SmartRetryMiddleware, TaskiqDepends, TaskiqMiddleware
from taskiq.exceptions import TaskRejectedError

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


class DeliversFirst(TaskiqMiddleware):
    """What a task has sent while it ran is delivered, and parked, before the task's slot is free."""

    bench: Bench

    async def post_execute(self, *_: Any) -> None:
        if self.bench.broker.sent:
            self.bench.arrive()
            await await_until(lambda: self.bench.parked() == 1)


def make_delivering(make_bench: Any, *middlewares: Any) -> Bench:
    delivers = DeliversFirst()
    bench: Bench = make_bench(None, *middlewares, delivers)
    delivers.bench = bench
    return bench


RETRIES = [
    SimpleRetryMiddleware(default_retry_count=3, default_retry_label=True),
    SmartRetryMiddleware(default_retry_count=3, default_retry_label=True, default_delay=0, use_jitter=True),
]


@pytest.mark.parametrize("retry", RETRIES, ids=["simple", "smart"])
async def test_a_retry_that_comes_while_the_slot_is_still_held_waits_for_it(make_bench, retry):
    bench = make_delivering(make_bench, retry)
    holders = []

    @bench.broker.task("retries")
    @pooled(key="p", max_size=1)
    async def retries(number: int) -> int:
        assert bench.held() == 1
        holders.append(current_slot().holder.partition("#")[0])
        if len(holders) < 3:
            raise ValueError("again")
        return number

    sent = await bench.send(retries, 7)

    assert (await bench.result(sent)).return_value == 7
    assert holders == [f"{sent}:0", f"{sent}:1", f"{sent}:2"]
    await bench.wait_free()
    assert len(bench.acked) == 3


async def test_a_task_that_requeues_itself_waits_for_its_own_slot_as_another_attempt(make_bench):
    bench = make_delivering(make_bench)
    holders = []

    @bench.broker.task("requeues")
    @pooled(key="p", max_size=1)
    async def requeues(context: Annotated[Context, TaskiqDepends()]) -> str:
        holders.append(current_slot().holder.partition("#")[0])
        if len(holders) < 3:
            await context.requeue()
        return "done"

    sent = await bench.send(requeues)

    assert (await bench.result(sent)).return_value == "done"
    assert holders == [f"{sent}:0", f"{sent}:0.1", f"{sent}:0.2"]
    await bench.wait_free()


async def test_a_rejected_task_frees_its_slot(bench):
    @bench.broker.task("rejects")
    @pooled(key="p", max_size=1)
    async def rejects(context: Annotated[Context, TaskiqDepends()]) -> None:
        context.reject()

    sent = await bench.send(rejects)

    assert isinstance((await bench.result(sent)).error, TaskRejectedError)
    await bench.wait_free()


async def test_a_result_backend_that_fails_keeps_no_slot(bench):
    saved = asyncio.Event()

    async def set_result(*_: Any) -> None:
        assert bench.held() == 1
        saved.set()
        raise ConnectionError("no results")

    bench.results.set_result = set_result
    await works(bench).kiq()
    await bench.arrive()

    await bench.wait_free()
    assert saved.is_set()
    assert len(bench.acked) == 1


@pytest.mark.parametrize("acks", [True, False], ids=["acknowledges", "does not"])
async def test_a_message_that_is_acknowledged_by_hand_runs_again_if_it_was_not(bench, acks):
    ran = []

    @bench.broker.task("by_hand", ack_type="manual")
    @pooled(key="p", max_size=1)
    async def by_hand(context: Annotated[Context, TaskiqDepends()]) -> None:
        ran.append(1)
        if acks:
            await context.ack()

    await by_hand.kiq()
    (data,) = bench.broker.sent
    await bench.arrive(data)
    await bench.arrive(data)  # the broker delivers it again

    assert len(ran) == (1 if acks else 2)
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
