"""A worker whose framework is the test itself: a port that records, deliveries made by hand, a clock moved by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from cachify_tasks import pooled
from cachify_tasks._core.commands import Acquire, Command, Inspect, Release, Ticket
from cachify_tasks._core.replies import Heir, Reply
from cachify_tasks._runtime.runtime import Runtime
from cachify_tasks._store.memory_store import MemoryStore
from cachify_tasks._worker.attempt import Attempt, Header
from cachify_tasks._worker.endings import Ending, UnreadableError
from cachify_tasks._worker.limits import TaskLimit
from cachify_tasks._worker.outbox import Report
from cachify_tasks._worker.port import Delivery, DeliveryState, HandOver, Later, Refusal, Stored
from cachify_tasks._worker.verdicts import Done, Verdict
from cachify_tasks._worker.worker import Worker
from cachify_tasks.errors import CachifyStoreError
from cachify_tasks.settings import UNSET, Settings

C = TypeVar("C")
KIND = "task/fake"
LEASE_S = 30.0
START_S = 10.0
BEGIN_US = 1_800_000_000_000_000
DOWN = CachifyStoreError("the store is out of reach")


class Clock:
    """Seconds, moved by hand. The store's clock is the same one."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def microseconds(self) -> int:
        return BEGIN_US + round(self.now * 1_000_000)


class FlakyStore:
    """The memory store, behind a network that the test can take away.

    Attributes:
        down: no command reaches the store.
        fail_on: no command of this type does.
        sent: every command that was tried, in order.
    """

    shown = "memory"
    local = True

    def __init__(self, clock: Clock) -> None:
        self.memory = MemoryStore(clock.microseconds)
        self.down = False
        self.fail_on: type[Any] | None = None
        self.sent: list[Command] = []

    def execute(self, command: Command) -> Any:
        self.sent.append(command)
        if self.down or (self.fail_on is not None and isinstance(command, self.fail_on)):
            raise DOWN
        return self.memory.execute(command)

    def execute_many(self, commands: list[Command]) -> list[Any]:
        return [self.execute(command) for command in commands]

    def reset_after_fork(self) -> None:
        """Nothing is open."""


@dataclass(eq=False)
class FakeDelivery:
    """One arrival of a message. `arrival.again()` is another arrival of the same message."""

    attempt: Attempt
    limit: TaskLimit | None = None
    header: Header = field(default_factory=Header)
    args: tuple[Any, ...] = ()
    is_copy: bool = False
    body: bytes | None = None
    priority: int = 0
    state: DeliveryState = field(default_factory=DeliveryState)

    @property
    def task_name(self) -> str:
        return "job"

    @property
    def label(self) -> str:
        return "job @fake"

    def arguments(self) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        return self.args, {}

    def own_arguments(self) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        return self.args, {}

    def envelope(self) -> bytes:
        return self.attempt.holder.encode() if self.body is None else self.body

    def message_priority(self) -> int:
        return self.priority

    def again(self, *, is_copy: bool = True) -> FakeDelivery:
        return FakeDelivery(self.attempt, self.limit, self.header, self.args, is_copy, self.body)


class FakePort:
    """Records what `Worker` asks of its adapter, and answers as the test has set its attributes.

    Attributes:
        loop: reports go into the outbox, as in an adapter with an event loop. Otherwise they are sent at once.
        fails: raised by `apply` for a verdict of these types.
        undone: `apply` cannot do verdicts of these types.
        calls: what is to be done in the thread that starts heirs; None: it is done at once.
    """

    kind = KIND

    def __init__(self, limit: TaskLimit | None = None) -> None:
        self.worker: Worker[str]
        self.limit = limit
        self.accepting = True
        self.reserves_for_itself = False
        self.has_capacity = True
        self.loop = False
        self.refusal: Refusal | Later | None = None
        self.refusals: dict[str, Refusal | Later] = {}  # of single messages
        self.revoked: set[str] = set()
        self.unknown: set[str] = set()
        self.fails: dict[type[Any], Exception] = {}
        self.undone: tuple[type[Any], ...] = ()
        self.calls: list[Callable[[], None]] | None = None
        self.applied: list[Verdict] = []
        self.ran: list[FakeDelivery] = []
        self.hints: list[HandOver[str]] = []
        self.taken_over: list[FakeDelivery] = []
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.ended: list[tuple[str, str | None, Ending]] = []
        self.unreadable: set[str] = set()
        self.asked_with: list[int] = []  # how many heirs waited, each time it was asked whether it starts another

    def open(self, envelope: bytes) -> str:
        return envelope.decode()

    def knows(self, message: str) -> bool:
        return message not in self.unknown

    def can_run(self, message: str, waiting: int) -> Refusal | Later | None:
        self.asked_with.append(waiting)
        return self.refusals.get(message, self.refusal)

    def deliver(self, handover: HandOver[str]) -> FakeDelivery | None:
        if handover.message in self.revoked:
            return None
        if handover.message in self.unreadable:
            raise UnreadableError("its serializer is not accepted")
        task_id, _, retries = handover.message.rpartition(":")
        delivery = FakeDelivery(Attempt(task_id, int(retries)), self.limit)
        delivery.state.stored = handover.stored()
        return delivery

    def end(self, task_id: str, message: str | None, why: Ending, recorded: Callable[[], None]) -> None:
        self.ended.append((task_id, message, why))
        recorded()

    def run(self, delivery: Delivery) -> None:
        self.ran.append(fake(delivery))

    def hint(self, handover: HandOver[str]) -> None:
        self.hints.append(handover)

    def take_over(self, delivery: Delivery) -> None:
        self.taken_over.append(fake(delivery))

    def is_revoked(self, delivery: Delivery) -> bool:
        return delivery.attempt.holder in self.revoked

    def apply(self, delivery: Delivery, verdict: Verdict) -> bool:
        self.applied.append(verdict)
        if type(verdict) in self.fails:
            raise self.fails[type(verdict)]
        return not isinstance(verdict, self.undone)

    def send(self, command: Report, *, at_once: bool) -> None:
        if self.loop:
            self.worker.outbox.add(command)
        else:
            self.worker.send_now(command)

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self.later.append((seconds, call))

    def call_in_worker(self, call: Callable[[], None]) -> None:
        if self.calls is None:
            call()
        else:
            self.calls.append(call)


class Bench:
    """A `Worker` on a real memory store, and all that a test needs to move it."""

    def __init__(self, limit: TaskLimit | None = None, **settings: Any) -> None:
        self.clock = Clock()
        self.store: Any = FlakyStore(self.clock)
        options = {"lease_ttl": LEASE_S, "start_timeout": START_S, **settings}
        self.runtime = Runtime(cast("Any", self.store), Settings(**options))
        self.limit = limit or limited()
        self.port = FakePort(self.limit)
        self.worker: Worker[str] = Worker(self.runtime, self.port, clock=self.clock)
        self.port.worker = self.worker

    def arrive(self, task_id: str, *, retries: int = 0, **options: Any) -> FakeDelivery:
        """A message that this worker asks the store about."""
        delivery = FakeDelivery(Attempt(task_id, retries), self.limit, **options)
        self.worker.ask_now(delivery)
        return delivery

    def hinted(self, task_id: str, *, starter: str = "", waited_ms: int = 0, token: int = 0) -> FakeDelivery:
        """A hint at a parked task, before the store was asked about it."""
        delivery = FakeDelivery(Attempt(task_id), self.limit)
        delivery.state.stored = Stored(pool="p", starter=starter, waited_ms=waited_ms, token=token, hinted=True)
        return delivery

    def acquire_elsewhere(self, holder: str, pool: str = "p", **options: Any) -> Reply:
        """Another worker asks for a slot, or parks its task here."""
        ticket = Ticket(kind=KIND, envelope=holder.encode())
        return self.send(
            Acquire(
                pool=pool, holder=holder, request_id=f"elsewhere-{holder}", limit=1, lease_ms=round(LEASE_S * 1000),
                start_ms=round(START_S * 1000), can_start_heirs=True, ticket=ticket, **options,
            )
        )  # fmt: skip

    def release_elsewhere(self, holder: str, token: int, pool: str = "p") -> Reply:
        """Another worker frees a slot. Its reply names the heir, which that worker does not start."""
        return self.send(
            Release(
                pool=pool, holder=holder, token=token, request_id=f"elsewhere-{holder}",
                start_ms=round(START_S * 1000), tomb_ms=300_000, can_start_heirs=True,
            )
        )  # fmt: skip

    def send(self, command: Any) -> Reply:
        """Past this worker, and past its network."""
        reply: Reply = self.store.memory.execute(command)
        return reply

    def holders(self, pool: str = "p") -> dict[str, bool]:
        """Who holds a slot: is it only reserved?"""
        return {view.holder: view.reserved for view in self.send(Inspect(pool)).holders}  # type: ignore[attr-defined]

    def parked(self, pool: str = "p") -> int:
        return int(self.send(Inspect(pool)).waiting)  # type: ignore[attr-defined]


def fake(delivery: Delivery) -> FakeDelivery:
    assert isinstance(delivery, FakeDelivery)
    return delivery


def limited(
    on_full: Any = UNSET, *, key: str = "p", max_size: int = 1, function: Any = None, default: Any = UNSET
) -> TaskLimit:
    """The limit of a function under `pooled`, in workers with this `default_on_full`."""

    def job(*args: Any) -> None: ...

    policy = pooled(key=key, max_size=max_size, on_full=on_full)(function or job).__cachify__
    return TaskLimit.of(policy, Runtime(MemoryStore(), Settings(default_on_full=default)))


def heir(
    holder: str, *, token: int = 1, kind: str = KIND, envelope: bytes | None = None, waited_ms: int = 0,
    deaths: int = 0, unknown_us: int = 0,
) -> Heir:  # fmt: skip
    return Heir(holder, token, holder.encode() if envelope is None else envelope, waited_ms, kind, deaths, unknown_us)


def only(bench: Bench, kind: type[C]) -> list[C]:
    """The commands of this kind that the worker has sent."""
    return [command for command in bench.store.sent if isinstance(command, kind)]


def parked_behind_another(bench: Bench, task_id: str = "t") -> int:
    """A task that was parked here behind another worker's; the token by which that one frees its slot."""
    token = bench.acquire_elsewhere("other:0").token
    bench.arrive(task_id)
    assert bench.port.applied == [Done("parked", 1, 1)]
    bench.port.applied.clear()
    return token
