"""Asynchronous clients, one for each event loop: connections belong to the loop that opened them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from .line import AsyncWire
from .wire import direct


class Home(NamedTuple):
    """What a store has in one event loop. life: ends with the loop; None: it has ended."""

    client: Any
    wire: AsyncWire | None
    life: Any


class Loops:
    """
    Args:
        given: the user's asyncio client, for the first loop that needs one; None: there is none that can be used.
        make: makes another one.
    """

    def __init__(self, given: Any, make: Callable[[], Any]) -> None:
        self._given, self._make = given, make
        self._free = given  # no loop has it yet
        self._homes: WeakKeyDictionary[asyncio.AbstractEventLoop, Home] = WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._homes)

    def peek(self) -> Home | None:
        """What is there for the running loop."""
        return self._homes.get(asyncio.get_running_loop())

    def here(self) -> Home:
        """What there is for the running loop, made at the first use."""
        loop = asyncio.get_running_loop()
        known = self._homes.get(loop)
        if known is not None:
            return known
        for other in [other for other in self._homes if other.is_closed()]:
            del self._homes[other]
        client, self._free = self._free, None
        if client is None:
            client = self._make()
        wire = AsyncWire(client) if direct(client) else None
        life = self._life(loop, client, wire)
        with contextlib.suppress(StopIteration):
            life.__anext__().send(None)  # as far as its yield; nothing is awaited before it
        home = self._homes[loop] = Home(client, wire, life)
        return home

    async def _life(
        self, loop: asyncio.AbstractEventLoop, client: Any, wire: AsyncWire | None
    ) -> AsyncGenerator[None, None]:
        """Ends with its event loop, which closes asynchronous generators at its end (asyncio.run does).

        Others that are closed then may have a slot to free, now or later: that is still done, without a life.
        """
        try:
            yield
        finally:
            home = self._homes[loop] = Home(client, wire, None)
            await self.hang_up(home)

    async def hang_up(self, home: Home) -> None:
        if home.wire is not None:
            home.wire.close()
            await asyncio.sleep(0)  # the socket is closed in the loop's next turn
        if home.client is not self._given:
            await home.client.aclose()

    async def aclose(self) -> None:
        """Close what was opened in the running loop."""
        home = self.peek()
        if home is not None and home.life is not None:
            await home.life.aclose()
            self._homes.pop(asyncio.get_running_loop(), None)

    def reset_after_fork(self) -> None:
        """In the child: the loops are the parent's, and so is the given client."""
        self._homes, self._free = WeakKeyDictionary(), None
