"""A worker with threads, or with processes and no event loop, that the test moves by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.concurrency.thread import TaskPool as Threads

from cachify_tasks import Drop, current_slot, pooled
from cachify_tasks._core.commands import Acquire, StartReserved
from cachify_tasks.celery.inline_gate import BlockingGate, InlineGate
from tests.celery.fake_worker import HandWorker, plain


class InlineBench(HandWorker):
    """A worker of one app with threads, or with processes and without an event loop."""

    def __init__(self, pool_cls: Any = Threads, *, loop: bool = True, **conf: Any) -> None:
        super().__init__(pool_cls, loop=loop, **conf)
        self.runs: list[str] = []
        self.held: dict[str, bool] = {}
        self.meanwhile: Callable[[], None] | None = None  # what happens while a task runs
        self._add("park", {})
        self._add("drop", {"on_full": Drop()})
        gate = BlockingGate if pool_cls.uses_semaphore else InlineGate
        self.gate = gate(self.runtime, self)  # type: ignore[arg-type]
        self.gated_by(self.gate)
        self.gate.register(self.hub)
        self.turn()

    def _add(self, name: str, options: dict[str, Any]) -> None:
        @self.app.task(name=name, shared=False)
        @pooled(key="{key}", max_size=1, **options)
        def task(key: str) -> str:
            self.runs.append(plain(current_slot().holder))
            self.held = self.holders(key)
            if self.meanwhile is not None:
                self.meanwhile()
            return key

    def turn(self) -> None:
        if self.hub is not None:
            self.hub.turn()

    def asked(self) -> list[Any]:
        """Commands by which deliveries have asked for slots."""
        return [command for command in self.store.sent if isinstance(command, Acquire | StartReserved)]


def strand(bench: InlineBench, pool: str) -> None:
    """A task is parked here behind one of another worker."""
    bench.acquire_elsewhere(pool)
    bench.receive("park", pool, task_id=f"heir-{pool}")
    bench.pool.jobs[-1].run()
    assert bench.parked(pool) == 1
