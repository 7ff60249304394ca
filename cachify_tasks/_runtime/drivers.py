"""The two drivers of flows: one blocks, one awaits."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import Any, TypeVar

from .._core.flows import Abandoned, Await, Checkpoint, Flow, Run, Sleep
from .._redis.asyncio_connection import Answer

T = TypeVar("T")


class Carried(BaseException):
    """Stands for an error of user code that means something else to a generator it is thrown into."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


def drive(flow: Flow[T], store: Any) -> T:
    """Do a flow here and now; the answer is what it returns.

    A signal handler can raise between any two of these lines, and where a loop begins anew. As long as the flow has
    not ended it is told of everything that is raised here: a flow that were left lying would keep its slot.
    """
    frame: Any = flow
    value = error = None
    while True:
        try:
            while True:
                step = flow.send(value) if error is None else flow.throw(error)
                value = error = None
                try:
                    match step:
                        case Run(function, args, kwargs):
                            value = function(*args, **(kwargs or {}))
                        case Sleep(seconds):
                            time.sleep(seconds)
                        case Await(wakeup, seconds):
                            value = wakeup.wait(seconds)
                        case Checkpoint():
                            pass
                        case _:
                            value = store.execute(step)
                except BaseException as raised:  # noqa: BLE001  # the flow decides what to do with it
                    error = Carried(raised) if isinstance(raised, StopIteration | GeneratorExit) else raised
        except BaseException as raised:
            if frame.gi_frame is not None:  # a signal
                error = raised
            elif isinstance(raised, StopIteration):  # the flow's own: it has ended
                return raised.value  # type: ignore[no-any-return]
            elif isinstance(raised, Carried):
                carried = raised.error
                break
            else:
                raise
    raise carried  # here, so that it keeps its own context


async def adrive(flow: Flow[T], store: Any) -> T:
    """Do a flow in the running event loop.

    A cancellation that arrives while the store works is kept until its answer has been fed to the flow: an answer that
    nobody takes would be a slot that nobody frees. It is delivered at the next step that is no command, or at the end.
    """
    due: list[asyncio.CancelledError] = []
    try:
        step = next(flow)
        while True:
            try:
                if due and isinstance(step, Run | Sleep | Await | Checkpoint):
                    raise _taken(due)
                match step:
                    case Run(function, args, kwargs):
                        value = function(*args, **(kwargs or {}))
                        if inspect.isawaitable(value):
                            value = await value
                    case Sleep(seconds):
                        await asyncio.sleep(seconds)
                        value = None
                    case Await(wakeup, seconds):
                        value = await wakeup.await_notified(seconds)
                    case Checkpoint():
                        value = None
                    case _ if store.local:
                        value = store.execute(step)
                    case _:
                        value = await _finished(store.begin(step), due)
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
        return stop.value  # type: ignore[no-any-return]
    except Exception as error:
        if due:  # an error that comes while a cancellation is due does not undo it
            raise _taken(due) from error
        raise


async def _finished(work: asyncio.Future[T], due: list[asyncio.CancelledError]) -> T:
    """What the work comes to, however often its caller is cancelled in the meantime; that is kept in `due`."""
    while True:
        try:
            return await (work if isinstance(work, Answer) else asyncio.shield(work))
        except asyncio.CancelledError as error:
            if work.cancelled():
                raise
            due.append(error)
            if work.done():
                return work.result()


def _taken(due: list[asyncio.CancelledError]) -> asyncio.CancelledError:
    error = due[-1]
    due.clear()
    return error


def _abandon(flow: Flow[Any]) -> None:
    try:
        flow.throw(Abandoned())
    except (Abandoned, StopIteration):
        return
