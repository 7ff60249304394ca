"""Calls that block until they are released."""

from __future__ import annotations

import threading

WAIT_S = 20.0


class Gate:
    """A call that blocks at a gate. A test waits until it has begun, and opens the gate."""

    def __init__(self) -> None:
        self._begun = threading.Semaphore(0)
        self._open = threading.Event()
        self.passed = 0

    def __call__(self, value: object = None) -> object:
        self._begun.release()
        assert self._open.wait(WAIT_S)
        self.passed += 1
        return value

    def open(self) -> None:
        self._open.set()

    def wait_begun(self, calls: int = 1) -> None:
        """Block until that many more calls have come to the gate."""
        for _ in range(calls):
            assert self._begun.acquire(timeout=WAIT_S)
