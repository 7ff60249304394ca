"""Types of Taskiq tasks in pools, in both stacking orders: `make check` reads this file, nothing runs it.

Each `type: ignore` is a call that must be wrong: mypy complains of one that is not needed.
"""

from typing import Annotated, assert_type

from pydantic import BaseModel
from taskiq import AsyncTaskiqTask, InMemoryBroker, TaskiqDepends, TaskiqResult

from cachify_tasks import CachedFallback, Drop, Park, Raise, Reschedule, pooled

broker = InMemoryBroker()


class User(BaseModel):
    id: int


def service() -> str:
    return "service"


@broker.task
@pooled(key="{a}", max_size=1, on_full=Park())
async def below(a: int, b: str = "") -> User:
    return User(id=a)


@broker.task("named", timeout=3)
@pooled(key="{a}", max_size=1, raise_on_full=True)
def sync_below(a: int, b: str = "") -> list[User]:
    return [User(id=a)]


@broker.task
@pooled(key="{a}", max_size=1)
async def may_be_dropped_where_it_is_called(a: int) -> User:
    return User(id=a)


@broker.task
@pooled(key="{a}", max_size=1, on_full=Drop())
def sync_dropped(a: int) -> User:
    return User(id=a)


@pooled(key="{a}", max_size=1, on_full=Park(then=Raise()))
@broker.task
async def above(a: int, b: str = "") -> User:
    return User(id=a)


@pooled(key="{a}", max_size=1)
@broker.task("named_too", timeout=3)
def sync_above(a: int, b: str = "") -> list[User]:
    return [User(id=a)]


@pooled(key="{a}", max_size=1, on_full=CachedFallback(ttl=3))
@broker.task
async def depends(a: int, found: Annotated[str, TaskiqDepends(service)] = "") -> int:
    return a


registered = broker.register_task(
    pooled(key="p", max_size=1, on_full=Reschedule())(sync_below.original_func), task_name="registered"
)


async def kiq() -> None:
    assert_type(await below.kiq(1, b="b"), AsyncTaskiqTask[User])
    assert_type(await sync_below.kiq(1, b="b"), AsyncTaskiqTask[list[User]])
    assert_type(await may_be_dropped_where_it_is_called.kiq(1), AsyncTaskiqTask[User | None])
    assert_type(await sync_dropped.kiq(1), AsyncTaskiqTask[User | None])
    assert_type(await above.kiq(1, b="b"), AsyncTaskiqTask[User])
    assert_type(await sync_above.kiq(1, b="b"), AsyncTaskiqTask[list[User]])
    assert_type(await depends.kiq(1), AsyncTaskiqTask[int])
    assert_type(await registered.kiq(1), AsyncTaskiqTask[list[User]])


async def results() -> None:
    assert_type(await (await below.kiq(1)).wait_result(), TaskiqResult[User])
    assert_type((await (await above.kiq(1)).wait_result()).return_value, User)
    assert_type((await (await sync_above.kiq(1)).get_result()).return_value, list[User])


async def direct_calls() -> None:
    assert_type(await below(1), User)
    assert_type(sync_below(1), list[User])
    assert_type(await may_be_dropped_where_it_is_called(1), User | None)
    assert_type(await above(1), User)
    assert_type(sync_above(1), list[User])


async def kickers() -> None:
    assert_type(await below.kicker().with_labels(colour="red").kiq(1), AsyncTaskiqTask[User])
    assert_type(await above.kicker().with_task_id("id").kiq(1), AsyncTaskiqTask[User])


async def wrong() -> None:
    await below.kiq("1")  # type: ignore[call-overload]
    await sync_below.kiq()  # type: ignore[call-arg]
    await above.kiq("1")  # type: ignore[call-overload]
    await sync_above.kiq(1, c=2)  # type: ignore[call-arg]
    await above("1")  # type: ignore[arg-type]
