"""Wakes a worker's event loop, from any thread and from the loop itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .internals import Hub


class LoopWaker:
    """A pipe that the loop watches.

    The hub's own `call_soon` does not do: a callback that is added while the loop runs its callbacks waits until the
    next event, for up to a second.

    Args:
        on_wake: called in the loop after `wake`, once for many.
    """

    def __init__(self, on_wake: Callable[[], None]) -> None:
        self._on_wake = on_wake
        self._pipe: tuple[int, int] | None = None

    def register(self, hub: Hub) -> None:
        """To be called at every start of the loop: a reset of the hub forgets its readers."""
        if self._pipe is None:
            self._pipe = os.pipe()
            for fd in self._pipe:
                os.set_blocking(fd, False)
        hub.add_reader(self._pipe[0], self._on_readable)
        self.wake()  # for what was added before the loop watched

    def wake(self) -> None:
        if self._pipe is not None:
            with suppress(BlockingIOError):  # full: the loop will wake
                os.write(self._pipe[1], b".")

    def _on_readable(self) -> None:
        assert self._pipe is not None
        with suppress(BlockingIOError):
            os.read(self._pipe[0], 65536)
        self._on_wake()
