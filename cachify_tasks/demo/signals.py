"""SIGINT and SIGTERM as an exception, from the first moment on; a second one does not disturb the clearing up."""

from __future__ import annotations

import signal
from typing import Any, NoReturn


class Interrupted(BaseException):
    """The process was asked to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signal = signal.Signals(signum)


def listen() -> None:
    """Raise `Interrupted` in the main thread when the signals come."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _interrupt)


def _interrupt(signum: int, frame: Any) -> NoReturn:
    for later in (signal.SIGINT, signal.SIGTERM):
        signal.signal(later, signal.SIG_IGN)
    raise Interrupted(signum)
