"""What the crew is told, and how its lock is taken."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from ..errors import PoolError

A_MOMENT = 1e-5  # seconds: who has the lock lacks nothing but the interpreter, which is free in the meantime


def patiently(lock: threading.Lock) -> None:
    """Take the lock, but never wait in it: who is woken there has the lock and not yet the interpreter, all others then
    wait for him in their turn, and each job costs two switches of threads.
    """
    while not lock.acquire(blocking=False):
        time.sleep(A_MOMENT)


class Refusal(NamedTuple):
    """Why the crew takes nothing."""

    kind: type[PoolError]
    text: str
    cause: BaseException | None = None

    def error(self) -> PoolError:
        error = self.kind(self.text)
        error.__cause__ = self.cause
        return error


class Limits(NamedTuple):
    """How many workers there may be. keep: seconds that one above the least stays with nothing to do."""

    least: int
    most: int
    keep: float
