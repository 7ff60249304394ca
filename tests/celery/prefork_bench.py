"""A prefork worker that the test moves by hand, with tasks for the cases of its gate."""

from __future__ import annotations

from typing import Any

from celery.concurrency.prefork import TaskPool

from cachify_tasks import Drop, Park, Reschedule, current_slot, pooled
from cachify_tasks._worker.worker import Worker
from cachify_tasks.celery.prefork_gate import PreforkGate
from tests.celery.fake_worker import HandConnection, HandWorker, plain


class PreforkBench(HandWorker):
    """A prefork worker of one app, its gate, and the gate's connection."""

    def __init__(self, *, size: int = 2, **conf: Any) -> None:
        super().__init__(TaskPool, size=size, **conf)
        tasks: dict[str, dict[str, Any]] = {
            "park": {}, "late": {"acks_late": True}, "drop": {"on_full": Drop()},
            "again": {"on_full": Reschedule(delay=20)}, "brief": {"on_full": Park(max_age=1, then=Drop())},
        }  # fmt: skip
        for name, options in tasks.items():
            self._add(name, options)

        @self.app.task(name="plain", shared=False)
        def plain() -> None: ...

        self.connection: Any = HandConnection(self.store)
        self.gate = PreforkGate(self.runtime, self, self.connection)  # type: ignore[arg-type]
        self.gate.core = Worker(self.runtime, self.gate, clock=self.clock)
        self.gated_by(self.gate)
        self.gate.register(self.hub)
        self.turn()

    def _add(self, name: str, options: dict[str, Any]) -> None:
        late = {"acks_late": True} if options.pop("acks_late", False) else {}

        @self.app.task(name=name, shared=False, **late)
        @pooled(key="{key}", max_size=1, **options)
        def task(key: str) -> str:
            return current_slot().key

    def turn(self, count: int = 1) -> None:
        assert self.hub is not None
        for _ in range(count):
            self.hub.turn()

    def answer(self) -> None:
        """The store answers what was sent, and what is sent because of that."""
        while self.connection.batches:
            self.connection.answer()
            self.turn(2)

    def running(self, task_id: str, pool: str, task: str = "park") -> Any:
        """A task that runs in this pool's only slot; its job."""
        self.receive(task, pool, task_id=task_id)
        self.turn()
        self.answer()
        (job,) = [job for job in self.pool.jobs if job.task_id == task_id]
        job.accept()
        return job

    def park(self, task_id: str, pool: str, task: str = "park") -> Any:
        """A task that is parked behind another."""
        delivery = self.receive(task, pool, task_id=task_id)
        self.turn()
        self.answer()
        assert task_id in self.channel.acknowledged
        return delivery


def kinds(commands: list[Any]) -> list[tuple[type[Any], str]]:
    """Of each command, in order: what it is, and whose."""
    return [(type(command), plain(command.holder)) for command in commands]


def queue_of(bench: PreforkBench) -> list[str]:
    """The tasks that wait for a process, in their order."""
    return [args[0].id for _, args, _ in bench.semaphore._waiting]


def strand(bench: PreforkBench, pool: str) -> None:
    """A task is parked here behind one of another worker."""
    bench.acquire_elsewhere(pool)
    bench.park(f"heir-{pool}", pool)
