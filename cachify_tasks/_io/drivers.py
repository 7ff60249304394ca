"""The two drivers of flows: one blocks, one awaits."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import Any, TypeVar

from .._core.flows import Abandoned, Checkpoint, Flow, Run, Sleep

T = TypeVar("T")


def drive(flow: Flow[T], store: Any) -> T:
    """Do a flow here and now; the answer is what it returns.

    A signal handler can raise between any two of these lines. As long as the flow has not ended it is told of
    everything that is raised here: a flow that were left lying would keep its slot.
    """
    value, error = None, None
    while True:
        try:
            step = flow.send(value) if error is None else flow.throw(error)
            value = error = None
            match step:
                case Run(function, args, kwargs):
                    value = function(*args, **(kwargs or {}))
                case Sleep(seconds):
                    time.sleep(seconds)
                case Checkpoint():
                    pass
                case _:
                    value = store.execute(step)
        except BaseException as raised:
            if flow.gi_frame is None:  # it has ended: this is its result or its error
                if isinstance(raised, StopIteration):
                    return raised.value  # type: ignore[no-any-return]
                if isinstance(error, StopIteration) and raised.__cause__ is error:
                    raise error from None  # user code raised it; on its way through a generator it was wrapped
                raise
            error = raised


async def adrive(flow: Flow[T], store: Any) -> T:
    """Do a flow in the running event loop.

    A cancellation that arrives while the store works is kept until its answer has been fed to the flow: an answer that
    nobody takes would be a slot that nobody frees. It is delivered at the next step that is no command, or at the end.
    """
    cancelled: asyncio.CancelledError | None = None
    try:
        step = next(flow)
        while True:
            try:
                if cancelled and isinstance(step, Run | Sleep | Checkpoint):
                    kept, cancelled = cancelled, None
                    raise kept
                match step:
                    case Run(function, args, kwargs):
                        value = function(*args, **(kwargs or {}))
                        if inspect.isawaitable(value):
                            value = await value
                    case Sleep(seconds):
                        await asyncio.sleep(seconds)
                        value = None
                    case Checkpoint():
                        value = None
                    case _ if store.local:
                        value = store.execute(step)
                    case _:
                        work = asyncio.ensure_future(store.aexecute(step))
                        while True:
                            try:
                                value = await asyncio.shield(work)
                                break
                            except asyncio.CancelledError as error:
                                if work.cancelled():
                                    raise
                                cancelled = error
                                if work.done():
                                    value = work.result()
                                    break
            except GeneratorExit as error:  # the coroutine is thrown away: nothing can be awaited any more
                raise _abandon(flow) or error
            except BaseException as error:  # noqa: BLE001  # the flow decides what to do with it
                step = flow.throw(error)
            else:
                step = flow.send(value)
    except StopIteration as stop:
        if cancelled:
            raise cancelled from None
        return stop.value  # type: ignore[no-any-return]
    except Exception as error:
        if cancelled:  # an error that comes while a cancellation is due does not undo it
            raise cancelled from error
        raise


def _abandon(flow: Flow[Any]) -> None:
    try:
        flow.throw(Abandoned())
    except (Abandoned, StopIteration):
        return
    flow.close()
