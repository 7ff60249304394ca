"""The flows, each written once: generators that yield steps, which a synchronous or an asynchronous driver does.

A step is a store command, `Run` (user code), `Sleep`, or `CHECKPOINT`. Errors of a step are thrown into the flow. A
store command is never interrupted half-way: an asynchronous driver finishes it, feeds the reply, and delivers a
cancellation at the next step that is not a command. A signal in the synchronous driver cannot be put off like that:
then nobody knows whether the command ran, and the flow takes it back.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from ..errors import CachifyStoreError
from .commands import Acquire, Command, Release, Reply

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


class Checkpoint:
    """A step at which a cancellation that came during a command is delivered."""


CHECKPOINT: Final = Checkpoint()
Step: TypeAlias = Command | Run | Sleep | Checkpoint
Flow: TypeAlias = Generator[Step, Any, T]


class Keeper(Protocol):
    """What the flows ask of their surroundings; none of it waits."""

    def granted(self, ask: Acquire, reply: Reply) -> Any:
        """A slot came: make its handle and have it renewed."""

    def ended(self, slot: Any) -> Release | None:
        """The run has ended: renew no more. The command that frees it; None: it is not this process's."""

    def told(self, ask: Acquire, reply: Reply) -> None:
        """Look at each answer: say when two limits are given for one pool."""

    def lost(self, slot: Any) -> None:
        """Its lease was lost before the run ended."""

    def unreachable(self, error: CachifyStoreError, doing: str) -> None:
        """The store failed, and the flow goes on without it."""


def enter(keeper: Keeper, ask: Acquire) -> Flow[Any]:
    """Ask for a slot. The answer is its handle, or the `Reply` that says why there is none."""
    try:
        reply: Reply = yield ask
    except Exception:
        raise
    except BaseException:
        yield from _take_back(ask)
        raise
    keeper.told(ask, reply)
    if reply.status != "granted":
        return reply
    slot = keeper.granted(ask, reply)
    try:
        yield CHECKPOINT
    except BaseException:
        yield from leave(keeper, slot)
        raise
    return slot


def _take_back(ask: Acquire) -> Flow[None]:
    """A signal struck between the command and its reply: free the slot that this arrival may have."""
    try:
        yield Release(ask.pool, ask.holder, 0, ask.rid, ask.start_ms, ask.start_ms)
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
        except Exception:
            raise
        except BaseException:
            yield command  # a signal struck: sent again, it answers the same
            raise
    except CachifyStoreError as error:
        keeper.unreachable(error, f"releasing a slot of {command.pool!r}")
        return
    if reply.status == "lost":
        keeper.lost(slot)


def hold(keeper: Keeper, slot: Any, body: Step) -> Flow[Any]:
    """Run the body inside a slot that `enter` gave, and free it however the body ends."""
    try:
        result = yield body
    except BaseException:
        yield from leave(keeper, slot)
        raise
    yield from leave(keeper, slot)
    return result


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
