"""`python -m cachify_tasks.demo`: the exit codes, and what SIGINT and SIGTERM do."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn


class Interrupted(BaseException):
    """The process was asked to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signal = signal.Signals(signum)


def run() -> int:
    """Run the demo. Returns its exit code: 128 and the signal's number after SIGINT or SIGTERM."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, interrupt)
    try:
        from .cli import main

        return main()
    except ModuleNotFoundError as error:
        print(f"the demo needs the package {error.name!r}: pip install 'cachify-tasks[demo]'", file=sys.stderr)
        return 2
    except Interrupted as error:
        print(f"\ninterrupted by {error.signal.name}; server and worker are gone", file=sys.stderr)
        return 128 + error.signal


def interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    """Raise `Interrupted`, so that server and worker are stopped. Ignore further signals while that happens."""
    for later in (signal.SIGINT, signal.SIGTERM):
        signal.signal(later, signal.SIG_IGN)
    raise Interrupted(signum)


if __name__ == "__main__":
    sys.exit(run())
