"""Commands on their way and their replies, for connections on which nobody waits. No socket, no event loop, no clock.

Whoever owns the socket adds a batch when it has written one, feeds what it has read, and looks at the deadline.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final, Generic, Protocol, TypeVar

from hiredis import PushNotification, Reader
from redis import exceptions
from redis._parsers.base import BaseParser

from .retry import another_server, means_another_server

_INCOMPLETE: Final = object()


class Batch(Protocol):
    """Commands that were written at once."""

    @property
    def size(self) -> int:
        """How many replies belong to it."""

    @property
    def sent(self) -> float:
        """When it was written, in seconds."""


B = TypeVar("B", bound=Batch)


class Pipeline(Generic[B]):
    """What is under way on one connection. Replies come in the order of the commands.

    Attributes:
        in_flight: the batches that are not answered yet, oldest first.
    """

    def __init__(self) -> None:
        self.in_flight: deque[B] = deque()
        self.restart()

    def restart(self) -> None:
        """Begin on another connection, which knows nothing of the one before. What was in flight there still is."""
        self._replies: list[Any] = []  # to the oldest batch
        self._reader = Reader(
            protocolError=exceptions.InvalidResponse, replyError=BaseParser.parse_error, notEnoughData=_INCOMPLETE
        )

    def feed(self, data: bytes) -> Iterator[tuple[B, list[Any]]]:
        """The batches that these bytes complete, with their replies; one that is an error is a value.

        Each batch is in flight until the next one is taken.

        Raises:
            AnotherServer: the commands belong to another server.
            InvalidResponse: these are no replies, or more than were asked for.
        """
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not _INCOMPLETE:
            if isinstance(reply, PushNotification):  # RESP3: the server says it unasked
                continue
            if isinstance(reply, Exception) and means_another_server(reply):
                raise another_server(reply)
            if not self.in_flight:
                raise exceptions.InvalidResponse(f"the server sent {reply!r:.60}, which answers no command")
            batch = self.in_flight[0]
            self._replies.append(reply)
            if len(self._replies) == batch.size:
                replies, self._replies = self._replies, []
                yield batch, replies
                self.in_flight.popleft()

    def left(self, now: float, timeout: float | None) -> float | None:
        """Seconds until the oldest batch is overdue, 0 or less if it is; None: it may take any time, or there is none.

        Args:
            timeout: seconds that a reply may take; None: any time.
        """
        if timeout is None or not self.in_flight:
            return None
        return self.in_flight[0].sent + timeout - now
