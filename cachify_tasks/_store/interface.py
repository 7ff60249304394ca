"""What a store is, for all that use one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from .._core.store_command import StoreCommand
from ..errors import CachifyStoreError
from .wakeups import Wakeups

A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """How a server is set up.

    Attributes:
        eviction: what it does when its memory is full ("noeviction" is what slots need); empty: unknown.
        persistent: are slots and parked tasks there again after a restart? None: unknown.
    """

    eviction: str = ""
    persistent: bool | None = None


class Store(Protocol):
    """Holds slots, tickets and cached values. `RedisStore` and `MemoryStore` are the two.

    All methods may be called in any thread; `aexecute`, `begin` and `aclose` in any event loop. When no answer comes
    they raise `CachifyStoreError`: then nobody knows whether the command ran. Every command may be sent again: it has
    the same answer, and no second effect.
    """

    @property
    def shown(self) -> str:
        """Where the store is, for people: without a password."""

    @property
    def local(self) -> bool:
        """It is in this process: it answers at once, and needs no thread, no connection and no second try."""

    def execute(self, command: StoreCommand[A]) -> A:
        """Run a command, and wait for its answer.

        Raises:
            CachifyStoreError: the store could not be reached, or refused the command.
            CachifyInitError: the store belongs to programs of another schema version or layout.
        """

    async def aexecute(self, command: StoreCommand[A]) -> A:
        """`execute` for code in an event loop. A cancelled caller does not know whether the command ran."""

    def begin(self, command: StoreCommand[A]) -> asyncio.Future[A]:
        """Send a command now; await the answer. A cancellation of the caller is delivered after the answer."""

    def execute_many(self, commands: Sequence[StoreCommand[A]]) -> list[A | CachifyStoreError]:
        """Run scripts in their order, in one round trip; an error of one is the answer to it alone.

        Args:
            commands: `ScriptCommand`s.

        Raises:
            CachifyStoreError: the store could not be reached; each command may have run or not.
        """

    @property
    def wakeups(self) -> Wakeups:
        """The wakeups of the functions that wait for a slot in this process."""

    def server(self) -> ServerFacts:
        """What a worker warns of when it starts.

        Raises:
            CachifyStoreError: the server is a node of a Redis Cluster, and this client knows no other nodes.
        """

    def close(self) -> None:
        """Close the synchronous connections that the store opened itself. It opens others when it is used again."""

    async def aclose(self) -> None:
        """Close what the store opened in the running event loop."""

    def reset_after_fork(self) -> None:
        """In a forked child: forget connections, event loops and waiters, which are the parent's."""
