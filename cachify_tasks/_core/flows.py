"""The flows, each written once: generators that yield steps, which a synchronous or an asynchronous driver does.

A step is a store command, `Run` (user code), `Sleep`, `Await` or `CHECKPOINT`. The driver sends the result of a step
into the flow, or throws its error into it. A store command is never interrupted half-way: the asynchronous driver
finishes it, sends the reply, and delivers a cancellation at the next step that is not a command. A signal in the
synchronous driver cannot be put off like that: then nobody knows whether the command ran, and the flow takes it back.

**Signals.** A handler may raise between any two bytecodes, so each of these flows keeps one rule: from the moment in
which a slot may have been granted until it has been released, the code is inside a `try` whose handler releases the
slot, and code outside such a `try` does nothing but enter it or return. A command that was sent already is sent again:
it is idempotent. What calls these flows need not think of signals, except where Python itself enters or leaves a
block: see `Pool.__exit__`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, TypeVar

from ..errors import CachifyStoreError
from .commands import Command, Release, Size, SlotRequest
from .replies import Reply

T = TypeVar("T")
S = TypeVar("S")  # the handle of a slot
S_contra = TypeVar("S_contra", contravariant=True)
FIRST_PAUSE_S: Final = 0.05  # between two tries while the store is out of reach
LONGEST_PAUSE_S: Final = 2.0


class Effect:
    """A step that the driver does itself, without the store. A cancellation can be delivered at it."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Run(Effect):
    """Run user code; the asynchronous driver awaits what a coroutine function returns."""

    function: Callable[..., object]
    args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Sleep(Effect):
    seconds: float


class Wakeup(Protocol):
    """Wakes one waiter: when a slot has been reserved for it, and when it had better ask the store."""

    @property
    def channel(self) -> str:
        """Where the store publishes."""

    @property
    def listening(self) -> bool:
        """Would a notification arrive now?"""

    def wait(self, seconds: float) -> None:
        """Return when notified, or after so many seconds."""

    async def await_notified(self, seconds: float) -> None:
        """`wait` for code in an event loop."""


@dataclass(frozen=True, slots=True)
class Await(Effect):
    """Wait for a notification, for so many seconds at most."""

    wakeup: Wakeup
    seconds: float


class Abandoned(BaseException):
    """Thrown into a flow whose driver can do no more steps: it must yield none. Its slot ends with its lease."""


class Checkpoint(Effect):
    """Do nothing: here the driver delivers a cancellation that came during a command."""

    __slots__ = ()


CHECKPOINT: Final = Checkpoint()
Step: TypeAlias = Command | Run | Sleep | Await | Checkpoint
Flow: TypeAlias = Generator[Step, object, T]


class Keeper(Protocol[S]):
    """What the flows need of their surroundings; nothing here waits."""

    def on_reply(self, request: SlotRequest, reply: Reply) -> S | None:
        """The handle of the slot that was granted, its lease being renewed from now on; None: none was granted."""

    def stop_renewing(self, slot: S) -> Release | None:
        """The run has ended. Returns the command that frees the slot; None: the slot belongs to another process."""

    def on_released(self, slot: S, reply: Reply) -> None:
        """The store has answered the release: the slot was freed, or its lease had been lost before."""

    def on_outage(self, error: CachifyStoreError, doing: str) -> None:
        """The store failed, and the flow goes on without it."""


def acquire(keeper: Keeper[S], request: SlotRequest) -> Flow[S | Reply]:
    """Ask for a slot once. Returns its handle, or the `Reply` that says why there is none."""
    try:
        reply = yield request
        assert isinstance(reply, Reply)
        slot = keeper.on_reply(request, reply)
        if slot is None:
            return reply
        yield CHECKPOINT
        return slot
    except (CachifyStoreError, Abandoned, GeneratorExit):
        raise
    except BaseException:  # a signal or a cancellation; a thread that cannot be started
        yield from _take_back(request)
        raise


def _take_back(request: SlotRequest) -> Flow[None]:
    """Free the slot that this arrival may have: perhaps nobody knows whether the command ran.

    `requeue`: the arrival has not run. Its ticket, if it has one, and later copies of its message stay valid.
    """
    try:
        yield Release(
            pool=request.pool, holder=request.holder, token=0, request_id=request.request_id,
            start_ms=request.start_ms, tomb_ms=request.start_ms, requeue=True,
        )  # fmt: skip
    except CachifyStoreError:
        return  # nobody renews it: its lease ends by itself


def release(keeper: Keeper[S], slot: S) -> Flow[None]:
    """Free a slot. An error of the store never replaces the outcome of the run: the lease ends by itself."""
    command = keeper.stop_renewing(slot)
    if command is None:
        return
    try:
        try:
            reply = yield command
        except (CachifyStoreError, Abandoned, GeneratorExit):
            raise
        except BaseException:
            yield command
            raise
    except CachifyStoreError as error:
        keeper.on_outage(error, f"releasing a slot of {command.pool!r}")
        return
    assert isinstance(reply, Reply)
    keeper.on_released(slot, reply)


def hold(keeper: Keeper[S], acquiring: Flow[S | Reply | None], body: Callable[[S | Reply | None], Flow[T]]) -> Flow[T]:
    """Acquire, use, release: do the body with what `acquiring` returns, and free the slot however the body ends.

    Args:
        acquiring: returns a slot; a `Reply`: there is none; or None: go on without one.
        body: the flow that uses it.
    """
    found = yield from acquiring
    try:
        result = yield from body(found)
        if found is not None and not isinstance(found, Reply):
            yield from release(keeper, found)
    except Abandoned:
        if found is not None and not isinstance(found, Reply):
            keeper.stop_renewing(found)
        raise
    except BaseException:
        if found is not None and not isinstance(found, Reply):
            yield from release(keeper, found)  # even if it was released already: the answer is the same
        raise
    return result


class Handle(Protocol[S_contra]):
    """What keeps a slot between two calls, for code that acquires it in one and releases it in another."""

    def keep(self, slot: S_contra | None) -> None:
        """The slot is there; None: go on without one."""

    def drop(self) -> None:
        """Undo `keep`, even if it was done by half: the slot is being freed."""


def take(
    keeper: Keeper[S], acquiring: Flow[S | Reply | None], handle: Handle[S], full: Callable[[Reply], Exception]
) -> Flow[S | None]:
    """Acquire a slot and leave it with a handle; whoever has the handle releases it. It is freed if the handle fails.

    Raises:
        Exception: there is no slot; it is what `full` makes of the store's reply.
    """
    found = yield from acquiring
    try:
        if isinstance(found, Reply):
            raise full(found)
        handle.keep(found)
        return found
    except BaseException:
        if not isinstance(found, Reply):
            handle.drop()
            if found is not None:
                yield from release(keeper, found)
        raise


def patient(flow: Callable[[], Flow[T]], again: Callable[[CachifyStoreError], bool]) -> Flow[T]:
    """Do a flow again, with growing pauses, while the store is out of reach and `again` says so."""
    pause = FIRST_PAUSE_S
    while True:
        try:
            return (yield from flow())
        except CachifyStoreError as error:
            if not again(error):
                raise
        yield Sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_S)


def size(pool: str) -> Flow[int]:
    """How many slots of a pool are held."""
    held = yield Size(pool)
    assert isinstance(held, int)
    return held
