"""What a pool reports about itself."""

from __future__ import annotations

from typing import Generic, TypeVar

from .connections import Connections
from .maintenance import Maintenance
from .options import Options
from .records import ConnectionPoolStats, Loan

T = TypeVar("T")


class Statistics(Generic[T]):
    """The properties of `ConnectionPool`. They are true for the moment."""

    _connections: Connections[T]
    _maintenance: Maintenance[T]
    _options: Options

    def stats(self) -> ConnectionPoolStats:
        """What it has, what it does and what it has done, at this moment."""
        connections, counts = self._connections, self._connections.counts
        return ConnectionPoolStats(
            minsize=connections.minsize,
            maxsize=connections.maxsize,
            currsize=self.currsize,
            available=self.available,
            in_use=self.in_use,
            making=connections.making,
            checking=connections.checking,
            cleaning=connections.cleaning,
            waiting=connections.waiters.live,
            lends=counts.lends + sum(record.lends for record in connections.records.values()),
            waits=counts.waits,
            timeouts=counts.timeouts,
            refused=counts.refused,
            made=counts.made,
            failed=counts.failed,
            sick=counts.sick,
            retired=counts.retired,
        )

    @property
    def available(self) -> int:
        """How many connections lie idle."""
        return len(self._connections.idle)

    @property
    def in_use(self) -> int:
        """How many connections are lent."""
        return self._connections.in_use

    @property
    def currsize(self) -> int:
        """How many connections the pool has: idle, lent, being checked; not those being made or cleaned."""
        return len(self._connections.records) - self._connections.cleaning

    @property
    def cursize(self) -> int:
        """The same as `currsize`."""
        return self.currsize

    @property
    def maxlife(self) -> float:
        """Seconds that a connection lives at most."""
        return self._options.maxlife

    @property
    def maxsize(self) -> int:
        """The most connections at once."""
        return self._connections.maxsize

    @property
    def minsize(self) -> int:
        """The least connections that are kept."""
        return self._connections.minsize

    def leaks(self) -> list[Loan[T]]:
        """Connections that have been lent for longer than `leak_after`, the longest first; none without that option."""
        return self._maintenance.leaks()
