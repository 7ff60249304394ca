"""The two drivers of flows: one blocks, one awaits."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import Any, TypeVar

from .._core.flows import Checkpoint, Flow, Run, Sleep

T = TypeVar("T")


def drive(flow: Flow[T], store: Any) -> T:
    """Do a flow here and now; the answer is what it returns."""
    try:
        step = next(flow)
        while True:
            try:
                match step:
                    case Run(function, args, kwargs):
                        value = function(*args, **(kwargs or {}))
                    case Sleep(seconds):
                        time.sleep(seconds)
                        value = None
                    case Checkpoint():
                        value = None
                    case _:
                        value = store.execute(step)
            except BaseException as error:  # noqa: BLE001  # the flow decides what to do with it
                step = flow.throw(error)
            else:
                step = flow.send(value)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


async def adrive(flow: Flow[T], store: Any) -> T:
    """Do a flow in the running event loop.

    A cancellation that arrives while the store works is kept until its answer has been fed to the flow: an answer that
    nobody takes would be a slot that nobody frees.
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
            except BaseException as error:  # noqa: BLE001  # the flow decides what to do with it
                step = flow.throw(error)
            else:
                step = flow.send(value)
    except StopIteration as stop:
        if cancelled:
            raise cancelled from None
        return stop.value  # type: ignore[no-any-return]
