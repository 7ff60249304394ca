"""A receiver of Taskiq in the test's own event loop, whose messages the test delivers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest
from taskiq import AsyncBroker, BrokerMessage
from taskiq.acks import AckableMessage
from taskiq.brokers.inmemory_broker import InmemoryResultBackend
from taskiq.receiver import Receiver
from taskiq.result import TaskiqResult

from cachify_tasks import Park, pooled
from cachify_tasks._core.commands import Find, Inspect
from cachify_tasks._runtime.instances import set_global_runtime
from cachify_tasks.pooling import Pool
from cachify_tasks.taskiq import CachifyMiddleware
from cachify_tasks.taskiq.gate import Gate
from tests.support.waiting import await_until


class HandBroker(AsyncBroker):
    """Keeps what is sent to it, for the test to deliver."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []

    async def kick(self, message: BrokerMessage) -> None:
        self.sent.append(message.message)

    def listen(self) -> AsyncGenerator[bytes, None]:
        raise NotImplementedError("the test delivers")


class Bench:
    """A broker, one receiver, and what has become of its messages."""

    def __init__(self, *middlewares: Any, executor: Executor | None = None, **settings: Any) -> None:
        self.broker = HandBroker()
        self.results: InmemoryResultBackend[Any] = InmemoryResultBackend()
        self.middleware = CachifyMiddleware(**{"url": "memory://", **settings})
        self.broker.with_result_backend(self.results).with_middlewares(
            *(m or self.middleware for m in middlewares or [None])
        )
        self.executor = executor or ThreadPoolExecutor(3)
        self.acked: list[bytes] = []
        self.ack_error: Exception | None = None
        self.on_ack: Callable[[], None] = lambda: None
        self.callbacks: list[asyncio.Task[None]] = []
        self._receiver: Receiver | None = None

    @property
    def receiver(self) -> Receiver:
        if self._receiver is None:
            self._receiver = Receiver(self.broker, executor=self.executor, max_async_tasks=10)
        return self._receiver

    @property
    def gate(self) -> Gate:
        return self.middleware.gate(self.receiver)

    def arrive(self, data: bytes | None = None, *, ackable: bool = True) -> asyncio.Task[None]:
        """The broker delivers a message: the oldest one that was sent, or this one."""
        data = self.broker.sent.pop(0) if data is None else data

        async def ack() -> None:
            if self.ack_error is not None:
                raise self.ack_error
            self.on_ack()
            self.acked.append(data)

        message = AckableMessage(data=data, ack=ack) if ackable else data
        self.callbacks.append(asyncio.create_task(self.receiver.callback(message)))
        return self.callbacks[-1]

    async def send(self, task: Any, *args: Any, **labels: Any) -> str:
        """Send and deliver it; its id."""
        sent = await task.kicker().with_labels(**labels).kiq(*args)
        self.arrive()
        return str(sent.task_id)

    async def park(self, task: Any, *args: Any, **labels: Any) -> str:
        """Send a task to a full pool; its id, when it is parked."""
        before = self.parked()
        sent = await self.send(task, *args, **labels)
        await await_until(lambda: self.parked() == before + 1)
        return sent

    async def result(self, task_id: str) -> TaskiqResult[Any]:
        await await_until(lambda: task_id in self.results.results)
        return self.results.results[task_id]

    def view(self, pool: str = "p") -> Any:
        return self.middleware.runtime.store.execute(Inspect(pool))

    def held(self, pool: str = "p") -> int:
        return len(self.view(pool).holders)

    def parked(self, pool: str = "p") -> int:
        return int(self.view(pool).waiting)

    def is_kept(self, task_id: str, pool: str = "p") -> bool:
        """Has the store the message of this task?"""
        return bool(self.middleware.runtime.store.execute(Find(pool, (task_id,))))

    async def wait_free(self, pool: str = "p") -> None:
        await await_until(lambda: (self.held(pool), self.parked(pool)) == (0, 0))

    async def close(self) -> None:
        await self.broker.shutdown()
        self.executor.shutdown()
        set_global_runtime(None)


@pytest.fixture
async def make_bench() -> AsyncIterator[Callable[..., Bench]]:
    """Makes benches, which end with the test. None among the middlewares stands for ours."""
    made: list[Bench] = []

    def make(*middlewares: Any, **options: Any) -> Bench:
        made.append(Bench(*middlewares, **options))
        return made[-1]

    yield make
    for bench in made:
        await bench.close()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


@asynccontextmanager
async def holding(bench: Bench, pool: str = "p") -> AsyncIterator[None]:
    """The only slot of a pool of one is taken by a direct call."""
    async with Pool(pool, 1, _runtime=bench.middleware.runtime):
        yield


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[None]:
    """The only slot of the pool "p" is held by a task of this worker: what is parked meanwhile is its heir."""
    begun, go = asyncio.Event(), asyncio.Event()

    @bench.broker.task("holds")
    @pooled(key="p", max_size=1, on_full=Park())
    async def holds() -> None:
        begun.set()
        await go.wait()

    await bench.send(holds)
    await begun.wait()
    yield
    go.set()
