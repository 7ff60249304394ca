"""Wakes a worker's event loop, from any thread and from the loop itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class LoopWaker:
    """A pipe that the loop watches.

    The hub's own `call_soon` does not do: what the loop adds to its callbacks while it runs them waits until the next
    event, for up to a second.

    Args:
        heard: called in the loop after `ring`, once for many.
    """

    def __init__(self, heard: Callable[[], None]) -> None:
        self._heard = heard
        self._pipe: tuple[int, int] | None = None

    def register(self, hub: Any) -> None:
        """At every start of the loop: a reset of the hub forgets its readers."""
        if self._pipe is None:
            self._pipe = os.pipe()
            for fd in self._pipe:
                os.set_blocking(fd, False)
        hub.add_reader(self._pipe[0], self._hear)
        self.wake()  # for what has come to be while nobody listened

    def wake(self) -> None:
        if self._pipe is not None:
            with suppress(BlockingIOError):  # full: it rings already
                os.write(self._pipe[1], b".")

    def _hear(self) -> None:
        assert self._pipe is not None
        with suppress(BlockingIOError):
            os.read(self._pipe[0], 65536)
        self._heard()
