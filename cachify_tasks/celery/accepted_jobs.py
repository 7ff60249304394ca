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
        readable, _, _ = select.select([process.outqR_fd for process in asked], [], [], LOOK)
        for fd in readable:
            _handle(hub, fd)


def _not_accepted(pool: BilliardPool) -> list[PoolProcess]:
    """The processes that a job was written to which they have not accepted."""
    written = [job._write_to for job in pool._cache.values() if not job._accepted]
    return [process for process in written if process is not None and process._is_alive()]


def _handle(hub: Hub, fd: int) -> None:
    """As the hub does that stands still now: the reader of a message that has come in part is a generator."""
    read, args = hub.readers.get(fd, (None, ()))
    if isinstance(read, Generator):
        with suppress(StopIteration):
            next(read)
    elif read is not None:
        read(*args)
