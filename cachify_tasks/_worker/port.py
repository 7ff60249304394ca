"""What a framework's adapter provides, and what it gets: the two sides of the seam between `_worker` and an adapter.

The adapter translates its framework's events into calls of `Worker` (in `worker`), and `Worker` answers through the
adapter's `WorkerPort`. Nothing here knows a framework or a store.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from .._core.commands import Acquire, StartReserved
from .._core.replies import Heir
from .._runtime.slot import Slot
from .attempt import Attempt, Header, Hint
from .endings import Ending
from .limits import TaskLimit
from .outbox import Report
from .verdicts import Verdict

TaskRequest: TypeAlias = Acquire | StartReserved  # by which a delivery asks for a slot
M = TypeVar("M")  # a message, as the adapter reads it from an envelope


@dataclass(slots=True, kw_only=True)
class Stored:
    """The delivery of a message that the store keeps: of a hint, or of an heir.

    Attributes:
        pool: where the task is parked.
        waited_ms: how long it waited there, by the store's clock.
        token: of the slot that is reserved for it; 0: unknown.
        starter: who alone may start it; empty: anybody.
        sure_until: until then (by the worker's clock) the reservation cannot have ended; 0.0: unknown.
        hinted: the delivery is a hint from the broker, not acknowledged yet.
        shared: how often its slot was given up while it waited here for capacity.
    """

    pool: str
    waited_ms: int = 0
    token: int = 0
    starter: str = ""
    sure_until: float = 0.0
    hinted: bool = False
    shared: int = 0

    @classmethod
    def of_hint(cls, hint: Hint) -> Stored:
        """Of a hint that the broker has delivered."""
        return cls(pool=hint.pool, starter=hint.starter, waited_ms=hint.waited_ms, hinted=True)


@dataclass(slots=True)
class DeliveryState:
    """What `Worker` remembers of one delivery; the adapter keeps it and does not change it.

    Owned by the thread that handles the delivery: first the one that asks, then the one that reports the run's end.

    Attributes:
        command: by which the delivery asks for a slot, made once: it names one arrival, however often it is sent.
        slot: held for it.
        stored: set when the store owns the message.
        refused: it waited for capacity here, and is done with: its pool was full.
        passed_on: a reserved task that another worker starts: this worker is shutting down.
        died: the run has killed its process, and the worker goes on.
    """

    command: TaskRequest | None = None
    slot: Slot | None = None
    stored: Stored | None = None
    refused: bool = False
    passed_on: bool = False
    died: bool = False


class Delivery(Protocol):
    """One arrival of a task's message at this worker. The adapter makes it; `Worker` reads it."""

    @property
    def state(self) -> DeliveryState:
        """A `DeliveryState()` of its own."""

    @property
    def attempt(self) -> Attempt:
        """Which attempt of which task it is, with the hand-overs of its header."""

    @property
    def header(self) -> Header:
        """Decoded from its message."""

    @property
    def limit(self) -> TaskLimit | None:
        """The limit on its task; None: it has none, or none any more."""

    @property
    def task_name(self) -> str:
        """The name of its task."""

    @property
    def label(self) -> str:
        """Shown to whoever inspects the pool: the task's name and its worker."""

    @property
    def is_copy(self) -> bool:
        """May the broker have delivered another message of this attempt before?"""

    def arguments(self) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """The call's arguments, as the function takes them: with the task itself in front where it takes that.

        Raises:
            Exception: they cannot be read; the task fails with it.
        """

    def own_arguments(self) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """The call's arguments, as its sender gave them."""

    def envelope(self) -> bytes:
        """Its message, for the store to keep; empty: this message cannot be kept."""

    def message_priority(self) -> int:
        """The message's own priority, 0 to 255, larger for what the broker delivers first."""


def next_header(delivery: Delivery, deferrals: int) -> str:
    """The header of the message that sends a delivery's attempt again. What the store has handed over is no copy."""
    handed_over = delivery.state.stored is not None
    return Header(
        deferrals=deferrals,
        handovers=delivery.attempt.handovers + handed_over,
        sending=delivery.attempt.sending,
        is_copy=delivery.is_copy and not handed_over,
    ).encode(delivery.attempt)


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver(Generic[M]):
    """A parked task with a slot reserved for it, for this worker to start or to hint at; or one to end as revoked.

    Attributes:
        message: what `WorkerPort.open` made of the heir's envelope.
        starter: who alone may start it; empty: anybody.
        sure_until: until then (by the worker's clock) the reservation cannot have ended; 0.0: unknown.
    """

    pool: str
    heir: Heir
    message: M
    starter: str = ""
    sure_until: float = 0.0

    def stored(self) -> Stored:
        """For the delivery that this worker makes of it."""
        return Stored(
            pool=self.pool, waited_ms=self.heir.waited_ms, token=self.heir.token,
            starter=self.starter, sure_until=self.sure_until,
        )  # fmt: skip

    def hint(self) -> Hint:
        """For the message by which another worker learns of it."""
        return Hint(
            pool=self.pool, starter=self.starter, waited_ms=self.heir.waited_ms, token=self.heir.token,
            ran=self.heir.ran,
        )  # fmt: skip


class Refusal(enum.Enum):
    """Why a worker does not start a parked task here."""

    NO_CAPACITY = "no process, thread or coroutine is free for it"
    NOT_YET = "the worker takes up no tasks now"
    NOT_MINE = "the worker does not consume its queue, or the task is another framework's"
    ELSEWHERE = "the worker neither consumes its queue, nor can it send hints there"
    UNKNOWN = "the worker consumes its queue and does not know the task"


@dataclass(frozen=True, slots=True)
class Later:
    """The task's rate limit does not let it run here before so many seconds have passed."""

    seconds: float


class WorkerPort(Protocol[M]):
    """What `Worker` asks of a framework's adapter.

    Every method is called by the thread that called `Worker`, except where it says otherwise.
    """

    @property
    def kind(self) -> str:
        """The envelopes this adapter writes and reads: "task/<framework>"."""

    @property
    def accepting(self) -> bool:
        """Does the worker still take up tasks? Then the store may reserve slots for tasks that it starts or hints at.

        False once its shutdown has begun. Any thread.
        """

    @property
    def reserves_for_itself(self) -> bool:
        """May heirs start before the store was asked once more? Only where one thread starts all tasks."""

    @property
    def has_capacity(self) -> bool:
        """Is there a free process, thread or coroutine, and can it be reached now? Asked by the reaper's thread."""

    def open(self, envelope: bytes) -> M:
        """The message in an envelope of this adapter's kind.

        Raises:
            Exception: it cannot be read.
        """

    def knows(self, message: M) -> bool:
        """Is the message's task one of this worker's?"""

    def can_run(self, message: M, waiting: int) -> Refusal | Later | None:
        """Why this worker does not start a parked task itself; None: it does.

        That it does not know the task goes before that it has no capacity: a hint would reach others like it.

        Args:
            waiting: how many heirs wait here for capacity already.
        """

    def deliver(self, handover: HandOver[M]) -> Delivery | None:
        """Make a delivery of a parked task's message; None: it was revoked or has expired, and has ended as that.

        Raises:
            UnreadableError: its content cannot be read.
        """

    def end(self, task_id: str, message: M | None, why: Ending, recorded: Callable[[], None]) -> None:
        """End a parked task as the framework ends a message of which this is true, so that its sender can see it.

        The store still has the message.

        Args:
            message: None: it cannot be read.
            recorded: to be called then, now or later; it takes the message out of the store.

        Raises:
            Exception: it could not be recorded. It is tried again at the task's next turn.
        """

    def run(self, delivery: Delivery) -> None:
        """Start an heir's delivery as soon as there is capacity, before messages the broker has delivered."""

    def hint(self, handover: HandOver[M]) -> None:
        """Send a hint to the task's queue: a worker that consumes it starts the task.

        Raises:
            Exception: the broker did not take it.
        """

    def take_over(self, delivery: Delivery) -> None:
        """Acknowledge a hint. From now on, acknowledging the delivery means `Worker.on_acknowledged`."""

    def is_revoked(self, delivery: Delivery) -> bool:
        """Was the delivery revoked or has it expired? Then it has ended as that when this returns."""

    def apply(self, delivery: Delivery, verdict: Verdict) -> bool | None:
        """Do what was decided.

        Returns:
            bool: False: it could not be done (the broker refused), and the message is still ours. None: it is not done
                yet, and `Worker.on_applied` will be told.
        """

    def send(self, command: Report, *, at_once: bool) -> None:
        """Send a command whose answer nobody waits for: soon, with others; `at_once`: before this method returns.

        An adapter that may block calls `Worker.send_now`. One with an event loop puts the command into `Worker.outbox`.
        """

    def call_in_worker(self, call: Callable[[], None]) -> None:
        """Do this in the thread that starts heirs. Called by any thread."""

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Do this in the thread that starts heirs, after so many seconds. It may be forgotten."""
