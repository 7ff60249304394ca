"""A warm shutdown waits until its processes have accepted what was written to them.

When a prefork worker shuts down, Celery lets go of each job that no process has accepted yet: its message stays
unacknowledged, and the broker delivers it again (`AsynPool.flush`). But a process that has read its job runs it all the
same, so the task would run twice. The time between the two is short; a worker that shuts down under load meets it.
"""

from __future__ import annotations

import select
import time
from collections.abc import Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from celery.worker import state

if TYPE_CHECKING:
    from .internals import BilliardPool, Hub, PoolProcess

PATIENCE: Final = 10.0  # seconds; a process that takes longer has been stopped
LOOK: Final = 0.5  # seconds between two looks at whether the processes are alive


def await_accepted(hub: Hub, pool: BilliardPool) -> None:
    """Handle what the pool's processes report until each has accepted what was written to it.

    Only in a warm shutdown: a cold one does not let its processes go on.
    """
    until = time.monotonic() + PATIENCE
    while not vars(state)["should_terminate"] and time.monotonic() < until:
        asked = _not_accepted(pool)
        if not asked:
            return
        reports = select.poll()  # not `select.select`, which takes no descriptor above 1023
        for process in asked:
            reports.register(process.outqR_fd, select.POLLIN)
        for fd, _ in reports.poll(LOOK * 1000):
            _handle(hub, fd)


def _not_accepted(pool: BilliardPool) -> list[PoolProcess]:
    """The processes that a job was written to which they have not accepted."""
    written = [job._write_to for job in pool._cache.values() if not job._accepted]
    return [process for process in written if process is not None and process._is_alive()]


def _handle(hub: Hub, fd: int) -> None:
    """As the hub does that stands still now: the reader of a message that has come in part is a generator."""
    read, args = hub.readers.get(fd, (None, ()))
    with suppress(StopIteration, OSError, EOFError):  # its process has just died; the shutdown goes on
        if isinstance(read, Generator):
            next(read)
        elif read is not None:
            read(*args)
