"""The two drivers of flows: one blocks, one awaits."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from functools import partial
from types import GeneratorType
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from .._core.flows import CHECKPOINT, Abandoned, Await, Checkpoint, Effect, Flow, Run, Sleep
from .._redis.asyncio_connection import Answer

if TYPE_CHECKING:
    from .._store.interface import Store

T = TypeVar("T")
_going_on: Final[set[object]] = set()  # flows that go on without their callers


class Carried(BaseException):
    """Stands for an error of user code that means something else to a generator it is thrown into."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


def drive(flow: Flow[T], store: Store) -> T:
    """Do a flow here and now, and return what it returns.

    A signal handler can raise between any two of these lines, and where a loop begins anew. As long as the flow has
    not ended, everything that is raised here is thrown into it: a flow that was left unfinished would keep its slot.
    Hence no `continue` in the inner `try`: its jump would be outside of both `try` blocks, and a signal is seen there.
    """
    assert isinstance(flow, GeneratorType)
    value: object = None
    error: BaseException | None = None
    while True:
        try:
            while True:
                step = flow.send(value) if error is None else flow.throw(error)
                value = error = None
                try:
                    if not isinstance(step, Effect):
                        value = store.execute(step)
                    else:
                        match step:
                            case Checkpoint():
                                pass
                            case Run(function, args, kwargs):
                                value = function(*args, **(kwargs or {}))
                            case Sleep(seconds):
                                time.sleep(seconds)
                            case Await(wakeup, seconds):
                                wakeup.wait(seconds)
                except BaseException as raised:  # noqa: BLE001  # the flow decides what to do with it
                    error = Carried(raised) if isinstance(raised, StopIteration | GeneratorExit) else raised
        except BaseException as raised:
            if flow.gi_frame is not None:  # a signal
                error = raised
            elif isinstance(raised, StopIteration):  # the flow's own: it has ended
                result: T = raised.value
                return result
            elif isinstance(raised, Carried):
                carried = raised.error
                break
            else:
                raise
    raise carried  # here, so that it keeps its own context


Begun: TypeAlias = Callable[[list[asyncio.CancelledError]], Awaitable[object]]  # waits for the answer to a step


class _Left(BaseException):
    """The caller was cancelled again before the reply came: the flow goes on without it."""

    def __init__(self, begun: Begun, error: asyncio.CancelledError) -> None:
        super().__init__()
        self.begun = begun
        self.error = error


async def adrive(
    flow: Flow[T],
    store: Store,
    begun: Begun | None = None,
    due: list[asyncio.CancelledError] | None = None,
) -> T:
    """Do a flow in the running event loop, and return what it returns.

    A cancellation that arrives while the store works is kept until the reply has been sent into the flow: a reply that
    is lost would be a slot that nobody frees. It is delivered at the next step that is no command, or at the end.

    A caller that is cancelled once more meanwhile waits no longer. Then the flow goes on in a task of its own, which
    delivers the cancellation and so frees what the reply has granted.

    Args:
        begun: the answer to the flow's present step, for one that goes on.
        due: the cancellations that it has not got yet.
    """
    due = [] if due is None else due
    value: object
    try:
        step = next(flow) if begun is None else CHECKPOINT
        while True:
            try:
                if begun is not None:
                    finished, begun = begun, None
                    value = await finished(due)
                elif not isinstance(step, Effect):
                    value = store.execute(step) if store.local else await _finished(store.begin(step), due)
                elif due:
                    raise _taken(due)
                else:
                    value = None
                    match step:
                        case Checkpoint():
                            pass
                        case Run(function, args, kwargs):
                            value = function(*args, **(kwargs or {}))
                            if inspect.isawaitable(value):
                                value = await value
                        case Sleep(seconds):
                            await asyncio.sleep(seconds)
                        case Await(wakeup, seconds):
                            await wakeup.await_notified(seconds)
            except _Left as left:
                rest = asyncio.ensure_future(adrive(flow, store, left.begun, due))
                _going_on.add(rest)
                rest.add_done_callback(_going_on.discard)
                raise left.error from None
            except GeneratorExit:  # the coroutine is thrown away: nothing can be awaited any more
                _abandon(flow)
                raise
            except BaseException as error:  # noqa: BLE001  # the flow decides what to do with it
                step = flow.throw(error)
            else:
                step = flow.send(value)
    except StopIteration as stop:
        if due:
            raise _taken(due) from None
        result: T = stop.value
        return result
    except Exception as error:
        if due:  # an error that comes while a cancellation is due does not undo it
            raise _taken(due) from error
        raise


async def _finished(work: asyncio.Future[T], due: list[asyncio.CancelledError]) -> T:
    """The result of the work, though its caller is cancelled in the meantime; that is kept in `due`.

    Raises:
        _Left: the caller was cancelled twice.
    """
    before = len(due)
    while True:
        try:
            return await (work if isinstance(work, Answer) else asyncio.shield(work))
        except asyncio.CancelledError as error:
            if isinstance(work, Answer) and work.successor is not None:
                work = work.successor
            elif work.cancelled():
                raise
            due.append(error)
            if work.done():
                return work.result()
            if len(due) > before + 1:
                raise _Left(partial(_finished, work), error) from None


def _taken(due: list[asyncio.CancelledError]) -> asyncio.CancelledError:
    error = due[-1]
    due.clear()
    return error


def _abandon(flow: Flow[object]) -> None:
    try:
        flow.throw(Abandoned())
    except (Abandoned, StopIteration):
        return
