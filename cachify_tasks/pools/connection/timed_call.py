"""Calls of the user's functions that may be slow, or never answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, TypeVar, cast

from .errors import PoolTimeout

V = TypeVar("V")

SLOW_S: Final = 0.25  # after so long no acquire counts on the call
GRACE_S: Final = 0.25  # for a call that was cancelled to end
Outcome: TypeAlias = tuple[object, BaseException | None]
Running: TypeAlias = asyncio.Task[Outcome]
Callers: TypeAlias = dict[asyncio.Task[object], asyncio.Task[object] | None]


async def timed(
    what: str,
    call: Callable[[], Awaitable[V]],
    limit: float | None,
    callers: Callers,
    *,
    on_slow: Callable[[], None],
    on_overrun: Callable[[Running], None],
) -> V:
    """What the call gives. It has a task of its own, so that the pool goes on where it resists its cancellation.

    Args:
        what: names the user's function, for the error.
        limit: seconds until the call is cancelled; None: never.
        callers: of each task that runs such a call: the task that waits for it. It has an entry as long as it runs.
        on_slow: called when the call has taken `SLOW_S`.
        on_overrun: gets the task if it goes on after it was cancelled, as a thread does.

    Raises:
        PoolTimeout: the call has not ended within the limit.
    """
    loop = asyncio.get_running_loop()
    ends = None if limit is None else loop.time() + limit
    running = loop.create_task(_outcome(call, callers, asyncio.current_task()))
    await _wait(running, SLOW_S if limit is None else min(SLOW_S, limit))
    if not running.done():
        on_slow()
        await _wait(running, None if ends is None else ends - loop.time())
    overdue = not running.done()
    if overdue:
        running.cancel()
        await _wait(running, GRACE_S)
        if not running.done():
            on_overrun(running)
            raise PoolTimeout(_late(what, limit))
    value, error = running.result()
    if overdue and isinstance(error, asyncio.CancelledError):
        raise PoolTimeout(_late(what, limit)) from error
    if error is not None:
        raise error
    return cast("V", value)


def _late(what: str, limit: float | None) -> str:
    return f"the {what} has not answered within {limit:g} s (call_timeout)"


async def _outcome(
    call: Callable[[], Awaitable[object]], callers: Callers, caller: asyncio.Task[object] | None
) -> Outcome:
    """The error as a value: a task would raise a SystemExit in the event loop."""
    running = asyncio.current_task()
    assert running is not None
    callers[running] = caller
    try:
        return await call(), None
    except BaseException as error:  # noqa: BLE001  # raised where it is waited for
        return None, error
    finally:
        del callers[running]


async def _wait(running: Running, seconds: float | None) -> None:
    """Wait for the task. A cancellation of the wait cancels the task, and the wait goes on."""
    loop = asyncio.get_running_loop()
    ends = None if seconds is None else loop.time() + seconds
    while not running.done():
        left = None if ends is None else ends - loop.time()
        if left is not None and left <= 0:
            return
        try:
            await asyncio.wait({running}, timeout=left)
        except asyncio.CancelledError:
            running.cancel()
