"""What the worker does with a delivery, decided in data. Pure: the same facts give the same verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias, assert_never

from .._core.commands import Acquire, SlotRequest, StartReserved
from .._core.decisions import Decision, Defer, FullPool, Skip
from .._core.replies import Reply
from ..errors import CachifyStoreError
from ..settings import UNSET, StoreErrorChoice, Unset
from .limits import TaskLimit

COPY_DELAY: Final = 5.0  # seconds until the copy of a running task asks again, if the store cannot keep it


@dataclass(frozen=True, slots=True)
class Start:
    """Run it, in the slot that was granted. token: of that slot; 0: its task has no limit."""

    token: int


@dataclass(frozen=True, slots=True)
class StartWith:
    """The pool is full, and the strategy acts where the task runs (a callback, a cached result, an error).

    Attributes:
        token: of the slot that it holds all the same: it waited too long, and its turn has come; 0: it holds none.
        decision: what the strategy decided, for the log; None: the user's strategy raised an error, and is asked again
            where the task runs, so that the task fails with it.
    """

    full: FullPool
    decision: Decision | None
    token: int = 0


@dataclass(frozen=True, slots=True)
class StartWithoutSlot:
    """The store is out of reach, and the user chose to run without a limit then."""


@dataclass(frozen=True, slots=True)
class Fail:
    """End the task with an error, raised where it would have run.

    Attributes:
        kind: "key": its arguments do not make a key; "store": the store is out of reach.
    """

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Done:
    """The store keeps the message now: acknowledge it. kept_as: "parked", or "standby" beside the running delivery."""

    kept_as: str
    limit: int = 0
    held: int = 0


@dataclass(frozen=True, slots=True)
class Leave:
    """A hint or heir that does not start: forget this delivery. The store owns the message, nothing is acknowledged."""


@dataclass(frozen=True, slots=True)
class Discard:
    """A late copy of an attempt that has ended: acknowledge it and do nothing."""


@dataclass(frozen=True, slots=True)
class Revoke:
    """The strategy drops the task: end it as revoked, with this reason."""

    full: FullPool
    token: int = 0


@dataclass(frozen=True, slots=True)
class Refuse:
    """The strategy raises, and the task has not been started: end it as failed, with `full.as_error()`."""

    full: FullPool


@dataclass(frozen=True, slots=True)
class SendLater:
    """Send the attempt again after a delay, then acknowledge this message.

    Attributes:
        deferrals: the new message's count of them.
        visible: show it as a retry (state, event, signal); a copy of a running task is not shown.
        full: what the strategy was asked about; None: the pool is not full, a copy is running.
        token: of the slot that it holds all the same, as in `StartWith`.
    """

    seconds: float
    deferrals: int
    visible: bool
    full: FullPool | None = None
    token: int = 0


@dataclass(frozen=True, slots=True)
class AskAgain:
    """The store is out of reach, or acting on a verdict failed: keep the message and ask again later."""


Verdict: TypeAlias = (
    Start | StartWith | StartWithoutSlot | Fail | Done | Leave | Discard | Revoke | Refuse | SendLater | AskAgain
)


def verdict(
    command: SlotRequest,
    reply: Reply | CachifyStoreError,
    *,
    limit: TaskLimit | None,
    on_store_error: StoreErrorChoice | Unset = UNSET,
    deferrals: int = 0,
    waited_ms: int = 0,
) -> Verdict:
    """What to do with a delivery, now that the store has answered its command.

    Args:
        limit: on its task; None: it has none any more (a parked task may outlive its limit).
        deferrals: how often the attempt was sent again because its pool was full.
        waited_ms: how long a parked task has waited.
    """
    if isinstance(reply, CachifyStoreError):
        return _without_the_store(command, reply, on_store_error)
    parked_before = isinstance(command, StartReserved)
    match reply.status:
        case "granted":
            if waited_ms and limit is not None and limit.is_overdue(waited_ms):
                return _full(command, reply, limit, deferrals, token=reply.token)
            return Start(reply.token)
        case "full":
            assert limit is not None, "only a task with a limit finds its pool full"
            return _full(command, reply, limit, deferrals)
        case "parked":
            return Leave() if parked_before else Done("parked", reply.limit, reply.held)
        case "standby":
            if isinstance(command, Acquire) and command.ticket is not None:
                return Done("standby")
            return SendLater(COPY_DELAY, deferrals, visible=False)
        case "dropped":
            return Leave() if parked_before else Discard()
        case "renewed" | "released" | "withdrawn" | "swept" | "configured" | "returned" | "lost":
            raise AssertionError(f"the store answered {reply} to {command}")
        case _:
            assert_never(reply.status)


def _without_the_store(command: SlotRequest, error: CachifyStoreError, choice: StoreErrorChoice | Unset) -> Verdict:
    if isinstance(command, StartReserved):  # the store has its message, and would start it again
        return AskAgain()
    match choice:
        case "run":
            return StartWithoutSlot()
        case "raise":
            return Fail("store", str(error))
        case _:
            return AskAgain()


def _full(command: SlotRequest, reply: Reply, limit: TaskLimit, deferrals: int, token: int = 0) -> Verdict:
    full = FullPool(command.pool, reply.limit, reply.held, deferrals)
    try:
        decision = limit.decide(full)
    except Exception:  # noqa: BLE001  # of a strategy that a user wrote
        return StartWith(full, None, token)
    match decision:
        case Defer(delay_ms):
            return SendLater(delay_ms / 1000, deferrals + 1, visible=True, full=full, token=token)
        case Skip(result) if result is UNSET:
            return Revoke(full, token)
        case _:  # what is no decision at all, too: the task fails with it where it runs
            return StartWith(full, decision, token)
