"""The flows, each written once: generators that yield steps, which a synchronous or an asynchronous driver does.

A step is a store command, `Run` (user code), `Sleep`, `Await` or `CHECKPOINT`. Errors of a step are thrown into the
flow. A store command is never interrupted half-way: an asynchronous driver finishes it, feeds the reply, and delivers a
cancellation at the next step that is not a command. A signal in the synchronous driver cannot be put off like that:
then nobody knows whether the command ran, and the flow takes it back.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from ..errors import CachifyStoreError
from .commands import Command, Release, Reply, SlotRequest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Run:
    """Run user code; a coroutine function's result is awaited by the asynchronous driver."""

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Sleep:
    seconds: float


class Wakeup(Protocol):
    """Rung when a slot has been reserved for a waiter, and when it had better ask."""

    @property
    def channel(self) -> str:
        """Where the store is to call."""

    @property
    def listening(self) -> bool:
        """Would a call be heard now?"""


@dataclass(frozen=True, slots=True)
class Await:
    """Wait until the bell is rung, or for so long."""

    wakeup: Any
    seconds: float


class Abandoned(BaseException):
    """Thrown into a flow whose driver can do no more steps: it yields none, and its slot ends with its lease."""


class Checkpoint:
    """A step at which a cancellation that came during a command is delivered."""


CHECKPOINT: Final = Checkpoint()
Step: TypeAlias = Command | Run | Sleep | Await | Checkpoint
Flow: TypeAlias = Generator[Step, Any, T]


class Keeper(Protocol):
    """What the flows ask of their surroundings; none of it waits."""

    def granted(self, ask: SlotRequest, reply: Reply) -> Any:
        """A slot came: make its handle and have it renewed."""

    def ended(self, slot: Any) -> Release | None:
        """The run has ended: renew no more. The command that frees it; None: it is not this process's."""

    def told(self, ask: SlotRequest, reply: Reply) -> None:
        """Look at each answer: say when two limits are given for one pool."""

    def lost(self, slot: Any) -> None:
        """Its lease was lost before the run ended."""

    def unreachable(self, error: CachifyStoreError, doing: str) -> None:
        """The store failed, and the flow goes on without it."""


def enter(keeper: Keeper, ask: SlotRequest) -> Flow[Any]:
    """Ask for a slot. The answer is its handle, or the `Reply` that says why there is none."""
    try:
        reply: Reply = yield ask
        keeper.told(ask, reply)
        if reply.status != "granted":
            return reply
        slot = keeper.granted(ask, reply)
        yield CHECKPOINT
    except (CachifyStoreError, Abandoned, GeneratorExit):
        raise
    except BaseException:  # a signal or a cancellation; a thread that cannot be started
        yield from _take_back(ask)
        raise
    return slot


def _take_back(ask: SlotRequest) -> Flow[None]:
    """Free the slot that this arrival may have: perhaps nobody knows whether the command ran.

    `again`: the arrival has not run. Its ticket, if it has one, and later copies of its message stay good.
    """
    try:
        yield Release(
            pool=ask.pool, holder=ask.holder, token=0, request_id=ask.request_id,
            start_ms=ask.start_ms, tomb_ms=ask.start_ms, requeue=True,
        )  # fmt: skip
    except CachifyStoreError:
        return  # nobody renews it: its lease ends by itself


def leave(keeper: Keeper, slot: Any) -> Flow[None]:
    """Free a slot. An error of the store never replaces the outcome of the run: the lease ends by itself."""
    command = keeper.ended(slot)
    if command is None:
        return
    try:
        try:
            reply: Reply = yield command
        except (CachifyStoreError, Abandoned, GeneratorExit):
            raise
        except BaseException:
            yield command  # a signal struck: sent again, it answers the same
            raise
    except CachifyStoreError as error:
        keeper.unreachable(error, f"releasing a slot of {command.pool!r}")
        return
    if reply.status == "lost":
        keeper.lost(slot)


def hold(keeper: Keeper, entering: Flow[Any], body: Callable[[Any], Flow[T]]) -> Flow[T]:
    """Ask by `entering`, do the body with its answer, and free the slot, if it is one, however the body ends."""
    found = yield from entering
    try:  # nothing stands between these lines: a signal would strike there
        result = yield from body(found)
        yield from _leave_if_slot(keeper, found)
    except Abandoned:
        if _is_slot(found):
            keeper.ended(found)
        raise
    except BaseException:
        yield from _leave_if_slot(keeper, found)  # freed already: sent again, it answers the same
        raise
    return result


def _is_slot(found: Any) -> bool:
    return found is not None and not isinstance(found, Reply)


def _leave_if_slot(keeper: Keeper, found: Any) -> Flow[None]:
    if _is_slot(found):
        yield from leave(keeper, found)


def patient(flow: Callable[[], Flow[T]], waits: Callable[[CachifyStoreError], bool]) -> Flow[T]:
    """Do a flow again, less and less often, while the store is out of reach and `waits` says so."""
    delay = 0.05
    while True:
        try:
            return (yield from flow())
        except CachifyStoreError as error:
            if not waits(error):
                raise
        yield Sleep(delay)
        delay = min(delay * 2, 2.0)
