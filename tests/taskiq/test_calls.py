"""Tasks are what they are without a pool: their arguments, dependencies, labels and direct calls."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any

import pytest
from pydantic import BaseModel
from taskiq import AsyncTaskiqTask, Context, InMemoryBroker, TaskiqDepends, TaskiqMiddleware
from taskiq import async_shared_broker as shared
from taskiq.middlewares.taskiq_admin_middleware import TaskiqAdminMiddleware

from cachify_tasks import CachedFallback, Drop, Park, Raise, current_slot, pooled
from cachify_tasks._runtime.instances import set_global_runtime
from cachify_tasks.taskiq import CachifyMiddleware
from cachify_tasks.taskiq.delivery import LABEL
from tests.support.waiting import await_until
from tests.taskiq.conftest import holding


class User(BaseModel):
    id: int


@pytest.mark.parametrize(
    ("given", "key"),
    [
        (("7", {"id": 1}, "2026-01-02T03:04:05"), "7-1-2026-01-02 03:04:05"),
        ((7, User(id=1), datetime(2026, 1, 2, 3, 4, 5)), "7-1-2026-01-02 03:04:05"),  # noqa: DTZ001
    ],
)
async def test_the_key_is_that_of_the_typed_call(bench, given, key):
    @bench.broker.task("typed")
    @pooled(key="{number}-{user.id}-{at}", max_size=1)
    async def typed(number: int, user: User, at: datetime) -> tuple[str, str]:
        return current_slot().key, type(user).__name__

    sent = await bench.send(typed, *given)

    assert (await bench.result(sent)).return_value == (key, "User")


@pytest.mark.parametrize("above", [True, False], ids=["pooled above", "pooled below"])
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_both_stacking_orders_hold_the_limit_in_tasks_and_direct_calls(bench, above, is_async):
    async def coroutine(key: str) -> str:
        return current_slot().key

    def function(key: str) -> str:
        return current_slot().key

    own: Any = coroutine if is_async else function
    pool = pooled(key="{key}", max_size=1, on_full=Raise())
    task = pool(bench.broker.task("task")(own)) if above else bench.broker.task("task")(pool(own))

    sent = await bench.send(task, "k")

    assert (await bench.result(sent)).return_value == "k"
    direct = await task("k") if is_async else task("k")
    assert direct == "k"


async def test_the_task_and_its_result_do_not_see_our_label(bench):
    @bench.broker.task("labels", colour="red")
    @pooled(key="p", max_size=1)
    async def labels(context: Annotated[Context, TaskiqDepends()]) -> dict[str, Any]:
        return dict(context.message.labels)

    async with holding(bench):
        parked = await bench.park(labels)
    first, second = await bench.result(parked), await bench.result(await bench.send(labels))

    assert first.return_value == second.return_value == {"colour": "red"}
    assert LABEL not in {**first.labels, **second.labels}


async def test_two_messages_of_one_id_both_run_with_their_own_arguments(bench):
    ran = []

    @bench.broker.task("same")
    @pooled(key="p", max_size=1)
    async def same(number: int) -> None:
        ran.append(number)

    async with holding(bench):
        for number in (1, 2):
            await same.kicker().with_task_id("one").kiq(number)
            bench.arrive()
        await await_until(lambda: bench.parked() == 2)

    await await_until(lambda: len(ran) == 2)
    assert ran == [1, 2]


@pooled(key="inner", max_size=1, on_full=Raise())
async def inner() -> str:
    return current_slot().key


async def dependency() -> str:
    return await inner()


async def test_a_dependency_may_use_a_pooled_function_and_a_task_may_call_itself(bench):
    @bench.broker.task("uses")
    @pooled(key="{key}", max_size=1, on_full=Raise())
    async def uses(key: str, found: Annotated[str, TaskiqDepends(dependency)] = "") -> list[str]:
        return [found, current_slot().key, *(await uses("other", "direct") if key == "k" else [])]

    sent = await bench.send(uses, "k")

    assert (await bench.result(sent)).return_value == ["inner", "k", "direct", "other"]


async def test_a_key_that_cannot_be_made_fails_that_task_alone_with_its_error(bench):
    @bench.broker.task("named")
    @pooled(key="user-{user.name}", max_size=1)
    async def named(user: dict[str, str]) -> str:
        return current_slot().key

    bad, good = await bench.send(named, {}), await bench.send(named, {"name": "a"})

    error = (await bench.result(bad)).error
    assert isinstance(error, ValueError)
    assert "finds no value for 'user'" in str(error)
    assert (await bench.result(good)).return_value == "user-a"


async def test_arguments_that_do_not_fit_are_the_functions_own_error(bench):
    @bench.broker.task("fits")
    @pooled(key="{a}", max_size=1)
    async def fits(a: int) -> int:
        return a

    sent = await bench.send(fits, 1, 2)

    assert isinstance((await bench.result(sent)).error, TypeError)


async def test_a_dropped_task_has_an_error_that_names_the_pool(bench):
    @bench.broker.task("drops")
    @pooled(key="p", max_size=1, on_full=Drop())
    async def drops() -> None: ...

    async with holding(bench):
        result = await bench.result(await bench.send(drops))

    assert str(result.error) == "pool 'p' is full: 1 of 1 slots are taken; the task was dropped"
    assert LABEL not in result.labels


async def test_a_fallback_is_the_last_result(bench):
    @bench.broker.task("falls_back")
    @pooled(key="p", max_size=1, on_full=CachedFallback(ttl=60))
    async def falls_back() -> str:
        return "fresh"

    await bench.result(await bench.send(falls_back))
    async with holding(bench):
        assert (await bench.result(await bench.send(falls_back))).return_value == "fresh"


class Watching(TaskiqMiddleware):
    """Sees what a dashboard sees: `TaskiqAdminMiddleware` has these hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def pre_execute(self, message: Any) -> Any:
        self.seen.append("started")
        return message

    def post_execute(self, message: Any, result: Any) -> None:
        self.seen.append("executed")


async def test_a_dashboard_sees_a_parked_task_start_and_end_once_and_not_before_it_runs(make_bench):
    assert {"pre_execute", "post_execute"} <= vars(TaskiqAdminMiddleware).keys()
    watching = Watching()
    bench = make_bench(watching, None)

    @bench.broker.task("watched")
    @pooled(key="p", max_size=1, on_full=Park())
    async def watched() -> None:
        watching.seen.append("ran")

    async with holding(bench):
        sent = await bench.park(watched)
        assert watching.seen == []

    await bench.result(sent)
    assert watching.seen == ["started", "ran", "executed"]


@pytest.fixture
async def memory():
    broker = InMemoryBroker().with_middlewares(CachifyMiddleware(url="memory://"))
    await broker.startup()
    yield broker
    await broker.shutdown()
    set_global_runtime(None)


async def test_wait_all_waits_for_tasks_that_were_handed_over(memory):
    running = peak = 0

    @memory.task("busy")
    @pooled(key="p", max_size=2)
    async def busy(number: int) -> int:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0)
        running -= 1
        return number

    sent: list[AsyncTaskiqTask[int]] = [await busy.kiq(number) for number in range(20)]

    await memory.wait_all()

    assert [(await one.get_result()).return_value for one in sent] == list(range(20))
    assert peak == 2


async def test_limits_hold_where_tasks_are_awaited_in_place():
    broker = InMemoryBroker(await_inplace=True).with_middlewares(CachifyMiddleware(url="memory://"))
    await broker.startup()

    @broker.task("raises")
    @pooled(key="p", max_size=1, on_full=Raise())
    async def raises(deeper: bool) -> str:
        if not deeper:
            return "ran"
        inner = await raises.kiq(False)
        return type((await inner.get_result()).error).__name__

    sent = await raises.kiq(True)

    assert (await sent.get_result()).return_value == "CachifyPoolFullError"
    await broker.shutdown()
    set_global_runtime(None)


async def test_a_shared_task_is_gated_on_the_broker_that_runs_it(memory):
    @shared.task("shared_one")
    @pooled(key="p", max_size=1)
    async def shared_one() -> str:
        return current_slot().key

    shared.default_broker(memory)

    sent = await shared_one.kiq()

    assert (await sent.wait_result(timeout=20)).return_value == "p"
    del type(memory).global_task_registry["shared_one"]
