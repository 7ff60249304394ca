"""Requests that wait in a prefork worker for a process: in the semaphore that counts its free processes."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .internals import Request, Worker


class ProcessQueue:
    """Belongs to the worker's main thread, as the semaphore does.

    A worker may have none (`worker_pool_putlocks=False`): then billiard's own queue has the requests.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._ahead_of_next_heir: object = None  # the delivered request that must run before the next heir (fairness)

    @property
    def is_used(self) -> bool:
        return self._worker.semaphore is not None and self._worker.process_task == self._worker._process_task_sem

    @property
    def is_busy(self) -> bool:
        """Is no process free?"""
        return self._worker.semaphore is not None and self.is_used and self._worker.semaphore.value <= 0

    def launch(self, request: Request, heirs: int) -> None:
        """Start an heir: it holds a reserved, idle slot, so it runs before messages that the broker has delivered.

        The two alternate, so that a steady stream of heirs cannot starve other pools.

        Args:
            heirs: how many wait here.
        """
        semaphore = self._worker.semaphore
        if semaphore is None or not self.is_used:
            self._worker.process_task(request)
        elif semaphore.value > 0:
            semaphore.acquire(self._worker._process_task, request)
        else:
            waiting = semaphore._waiting
            index = 1 if waiting and waiting[0] is self._ahead_of_next_heir else 0
            for position, (callback, *_) in enumerate(islice(waiting, 2 * heirs + 1)):
                if callback == self._start_heir:
                    index = position + 2
            waiting.insert(index, (self._start_heir, (request,), {}))

    def _start_heir(self, request: Request) -> None:
        """The turn of an heir that had to wait for a process."""
        assert self._worker.semaphore is not None
        waiting = self._worker.semaphore._waiting
        self._ahead_of_next_heir = waiting[0] if waiting else None
        self._worker._process_task(request)

    def remove(self, request: Request) -> None:
        """It waits no more."""
        waiting = self._worker.semaphore._waiting if self._worker.semaphore is not None else []
        for position, (_, args, _) in enumerate(waiting):
            if args and args[0] is request:
                del waiting[position]
                return

    def free(self) -> None:
        """The request that had a process does not use it."""
        release = getattr(self._worker, "_quick_release", None)
        if release is not None and self.is_used:
            release()
