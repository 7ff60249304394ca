"""Messages that are sent again later, for frameworks whose brokers deliver at once whatever delay they are given."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from .._core.key_commands import ForgetPostponed, Postpone, TakePostponed
from .._runtime.runtime import Runtime
from ..errors import CachifyStoreError

logger = logging.getLogger("cachify_tasks")

RARELY: Final = 5.0  # seconds between two looks, for messages whose worker has died
TOGETHER: Final = 100  # messages that are taken at once
HIDE_MS: Final = 30_000  # a worker that has taken one and does not send it by then has died


class PostponedMessages:
    """Those of one queue, kept in the store. Each worker of the queue sends those that are due.

    It belongs to one event loop.

    Args:
        publish: sends a message to the queue.
    """

    def __init__(self, runtime: Runtime, queue: str, publish: Callable[[bytes], Awaitable[None]]) -> None:
        self._runtime = runtime
        self._queue = queue
        self._publish = publish
        self._look_at = 0.0  # by the loop's clock
        self._sooner = asyncio.Event()
        self._stopped = False

    async def add(self, name: str, data: bytes, seconds: float) -> None:
        """Keep a message for so long.

        Args:
            name: of this arrival. The message may be back, and be kept again, before the worker that has sent it has
                forgotten it: that must not forget the new one.

        Raises:
            CachifyStoreError: the store is out of reach.
        """
        await self._runtime.store.begin(Postpone(self._queue, name, data, round(seconds * 1000)))
        self._look_by(asyncio.get_running_loop().time() + seconds)

    def _look_by(self, moment: float) -> None:
        if moment < self._look_at:
            self._look_at = moment
            self._sooner.set()

    def stop(self) -> None:
        self._stopped = True
        self._sooner.set()

    async def send_due_ones(self) -> None:
        """Until `stop`: send what is due, then wait for what is due next."""
        loop = asyncio.get_running_loop()
        while not self._stopped:
            self._look_at = loop.time() + RARELY
            try:
                next_s = await self._send()
                if next_s is not None:
                    self._look_at = min(self._look_at, loop.time() + next_s)
            except CachifyStoreError:  # said where a task has asked for its slot
                pass
            except Exception as error:  # noqa: BLE001  # whatever a broker raises; the store still has the message
                logger.error("a rescheduled task could not be sent: %r; trying again", error)
            await self._pause(loop)

    async def _pause(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stopped:
            left = self._look_at - loop.time()
            if left <= 0:
                return
            self._sooner.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._sooner.wait(), left)

    async def _send(self) -> float | None:
        """Returns the seconds until the next message is due; None: there is none."""
        store = self._runtime.store
        taken = await store.begin(TakePostponed(self._queue, TOGETHER, HIDE_MS))
        for name, data in taken.messages.items():
            await self._publish(data)
            await store.begin(ForgetPostponed(self._queue, (name,)))
        if len(taken.messages) == TOGETHER:
            return 0.0
        return None if taken.next_ms is None else taken.next_ms / 1000
