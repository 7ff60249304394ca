"""Events: what happens to slots, as frozen objects that listeners get. The log is one listener, see `event_log`.

`emit` may be called by any thread. Listeners belong to the process; one that raises hurts nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from .._fork import after_in_child
from ..errors import CachifyStoreError

logger = logging.getLogger("cachify_tasks")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotGranted:
    """A slot was granted. held, limit: the pool's, after that; label: describes the holder."""

    pool: str
    holder: str
    token: int
    limit: int
    held: int
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFull:
    """A call found its pool full.

    Attributes:
        label: the name of its function or task.
        task_id: empty: it is no task.
        decision: what happens to it instead, the name of a decision such as "Skip".
        strategy: who decided so, as the user wrote it ("Drop()"); empty: a `with` block, which raises.
        by_default: nobody has said what to do; the call is not made, and returns None.
    """

    pool: str
    holder: str
    label: str
    limit: int
    held: int
    decision: str
    task_id: str = ""
    strategy: str = ""
    by_default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskParked:
    """A task waits in its pool's queue: the store has its message. label: the task's name."""

    pool: str
    holder: str
    task_id: str
    label: str
    limit: int
    held: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver:
    """A parked task got a freed slot.

    Attributes:
        waited_ms: how long it was in the queue.
        where: "here": the worker whose command reserved the slot starts it; "hint": it sent a hint to another worker.
    """

    pool: str
    holder: str
    waited_ms: int
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPutAside:
    """A parked task whose turn had come cannot start in this worker: its slot went to the next one.

    Attributes:
        why: it cannot.
        seconds: after them it has its place in the queue again.
    """

    pool: str
    holder: str
    why: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEnded:
    """A parked task ended without a run. why: no worker can ever start it, or it was revoked."""

    pool: str
    holder: str
    task_id: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotReleased:
    """A slot was freed. held_s: how long it was held, by the clock of this process."""

    pool: str
    holder: str
    token: int
    label: str
    held_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseWasLost:
    """A lease ended before its run: another one may run beside it. when: "while it ran" or "before its run ended"."""

    pool: str
    holder: str
    token: int
    when: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StandbyKept:
    """A second delivery of a running task came; the store keeps it aside while the first one runs."""

    pool: str
    holder: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyDiscarded:
    """A late second delivery came of a task that has ended; it was dropped."""

    pool: str
    holder: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsDiffer:
    """Two limits are given for one pool.

    Attributes:
        counts: the one that does: a worker's before a direct call's, else the last one; or one that was set at run
            time.
        label: the name of the function or task that gives `limit`; empty: a pool object does.
    """

    pool: str
    previous_limit: int
    limit: int
    counts: int
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitsForItself:
    """A call has waited for a while, and its own caller holds slots of that pool: it may wait for ever.

    Attributes:
        label: the name of the function that waits; empty: `acquire` does.
        own: how many of the pool's `limit` slots the caller holds.
    """

    pool: str
    label: str
    limit: int
    own: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUnreachable:
    """The store did not answer, or refused. doing: what was to be done, and what happens instead."""

    doing: str
    error: CachifyStoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalFailed:
    """The leases of so many slots could not be renewed; it is tried again until they end."""

    count: int
    error: CachifyStoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultNotKept:
    """A result that `CachedFallback` should keep could not be pickled. name: of the result."""

    name: str
    error: Exception


Event: TypeAlias = (
    SlotGranted
    | PoolFull
    | TaskParked
    | HandedOver
    | TaskPutAside
    | TaskEnded
    | SlotReleased
    | LeaseWasLost
    | StandbyKept
    | CopyDiscarded
    | LimitsDiffer
    | WaitsForItself
    | StoreUnreachable
    | RenewalFailed
    | ResultNotKept
)
Listener: TypeAlias = Callable[[Event], object]

# Besides the log. Read `events.listeners`: it is replaced, never changed. `SlotGranted` and `SlotReleased` need not be
# made where it is empty: the log has no line for them.
listeners: tuple[Listener, ...] = ()


def add_listener(listener: Listener) -> None:
    """Call this with each event of this process, in the thread in which it happens: it must be quick."""
    global listeners
    listeners = (*listeners, listener)


def remove_listener(listener: Listener) -> None:
    """Undo one `add_listener`."""
    global listeners
    kept = list(listeners)
    kept.remove(listener)
    listeners = tuple(kept)
    _failed.discard(id(listener))


class Emitter:
    """Hands events to the log first, then to the listeners of the process. Any thread may use it."""

    __slots__ = ("_log",)

    def __init__(self, log: Listener) -> None:
        self._log = log

    def emit(self, event: Event) -> None:
        for listener in (self._log, *listeners):
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001  # whatever a listener raises
                if id(listener) not in _failed:
                    _failed.add(id(listener))
                    logger.warning("the listener %r failed, and will fail in silence: %r", listener, error)


_failed: set[int] = set()  # identities of listeners whose failure was logged; another one may get an identity again


def _forget_failures() -> None:
    _failed.clear()


after_in_child(_forget_failures)
