"""A slot is held, its lease renewed, through each step by which Taskiq deals with a message; then it is free."""

from collections.abc import Callable
from typing import Annotated, Any

import pytest
from taskiq import TaskiqDepends, TaskiqMiddleware
from taskiq.brokers.inmemory_broker import InmemoryResultBackend

from cachify_tasks import Park, current_slot, pooled, testing
from tests.taskiq.conftest import Bench, running

Look = Callable[[str], None]


class Steps(TaskiqMiddleware):
    """Looks in each of its hooks, for one task."""

    look: Look

    def _look(self, step: str, message: Any) -> None:
        if message.task_name == "looked_at":
            self.look(step)

    def pre_execute(self, message: Any) -> Any:
        self._look("pre_execute", message)
        return message

    def on_error(self, message: Any, *_: Any) -> None:
        self._look("on_error", message)

    def post_execute(self, message: Any, *_: Any) -> None:
        self._look("post_execute", message)

    def post_save(self, message: Any, *_: Any) -> None:
        self._look("post_save", message)


class LookingResults(InmemoryResultBackend[Any]):
    look: Look

    async def set_result(self, task_id: str, result: Any) -> None:
        if result.labels.get("ack_type"):
            self.look("set_result")
        await super().set_result(task_id, result)


def steps(policy: str, *, fails: bool, parked: bool) -> list[str]:
    """In their order. A parked message was acknowledged before."""
    found = ["pre_execute", "when_received", "set up", "function", "tear down"]
    found += ["on_error"] * fails + ["when_executed", "post_execute", "set_result", "post_save", "when_saved"]
    return [step for step in found if not step.startswith("when_") or (step == policy and not parked)]


@pytest.fixture
def clock():
    with testing.memory() as clock:
        yield clock


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize("fails", [False, True], ids=["returns", "raises"])
@pytest.mark.parametrize("parked", [False, True], ids=["delivered", "parked"])
@pytest.mark.parametrize("first", [True, False], ids=["hooks before ours", "hooks after ours"])
@pytest.mark.parametrize("policy", ["when_received", "when_executed", "when_saved"])
async def test_a_slot_is_held_and_renewed_from_the_first_hook_to_the_last(
    clock, make_bench, policy, first, parked, fails, is_async
):
    watching = Steps()
    bench: Bench = make_bench(*([watching, None] if first else [None, watching]))
    bench.results = results = LookingResults()
    bench.broker.with_result_backend(results)
    seen: list[tuple[str, int]] = []

    def look(step: str) -> None:
        clock.move(100)  # more than three leases
        seen.append((step, bench.held()))

    async def dependency() -> Any:
        look("set up")
        try:
            yield 1
        finally:
            look("tear down")

    def body() -> None:
        look("function")
        assert not current_slot().lost
        if fails:
            raise ValueError("no")

    async def task(value: Annotated[int, TaskiqDepends(dependency)]) -> None:
        body()

    def sync_task(value: Annotated[int, TaskiqDepends(dependency)]) -> None:
        body()

    looked_at: Any = bench.broker.task("looked_at", ack_type=policy)(
        pooled(key="p", max_size=1, on_full=Park())(task if is_async else sync_task)
    )

    watching.look = results.look = look
    if parked:
        async with running(bench):
            sent = await bench.park(looked_at)
    else:
        bench.on_ack = lambda: look(policy)
        sent = await bench.send(looked_at)

    assert (await bench.result(sent)).is_err is fails
    await bench.wait_free()
    assert seen == [(step, 1) for step in steps(policy, fails=fails, parked=parked)]
