"""Wait for something to become true, instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.01


def wait_until(condition: Callable[[], T], timeout: float = 5.0, message: str = "") -> T:
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


async def await_until(condition: Callable[[], T], timeout: float = 5.0, message: str = "") -> T:
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
