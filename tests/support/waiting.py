"""Wait for something to become true, instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.01
# A busy machine stands still for seconds. What takes milliseconds is given up before a lease of 30 s has ended: that is
# not to pass for a release.
SOON_S = 20.0
PATIENCE_S = 60.0  # for workers and programs


def wait_until(condition: Callable[[], T], timeout: float = SOON_S, message: str = "") -> T:
    """Call `condition` until its answer is true, and return that answer.

    Args:
        condition: Cheap to call; called every 10 ms.
        timeout: Seconds until it is given up with an AssertionError.
        message: What was waited for, told by that error.
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(_too_late(condition, timeout, message, answer))
        time.sleep(POLL_S)


async def await_until(condition: Callable[[], T], timeout: float = SOON_S, message: str = "") -> T:
    """The same for async tests: the event loop runs on while it waits."""
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(_too_late(condition, timeout, message, answer))
        await asyncio.sleep(POLL_S)


def _too_late(condition: object, timeout: float, message: str, answer: object) -> str:
    return f"not within {timeout} s: {message or repr(condition)} (last answer: {answer!r})"
