"""Asynchronous clients, one for each event loop: connections belong to the loop that opened them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final
from weakref import WeakKeyDictionary

from .asyncio_connection import AsyncSender
from .sync_connection import direct

CLIENTS: Final = "_cachify_clients"  # an attribute of event loops


class LoopClient:
    """What a store has in one event loop.

    Args:
        owned: the client is closed in the end.

    Attributes:
        sender: None where the client does not work by a plain pool of connections.
        users: commands under way.
        life: ends with the loop; None: it has ended, and the last user hangs up.
    """

    def __init__(self, client: Any, *, owned: bool) -> None:
        self.client, self._owned = client, owned
        self.users = 0
        self.sender = AsyncSender(client) if direct(client) else None
        self.life: AsyncGenerator[None, None] | None = self._lived()
        with contextlib.suppress(StopIteration):
            self.life.__anext__().send(None)  # as far as its yield; nothing is awaited before it

    async def _lived(self) -> AsyncGenerator[None, None]:
        """Ends with its event loop, which closes asynchronous generators at its end (asyncio.run does).

        Others that are closed then may have a slot to free, now or later: that is still done, without a life.
        """
        try:
            yield
        finally:
            self.life = None
            await self.rest()

    async def rest(self) -> None:
        """Hang up, if it is used no more."""
        if self.life is not None or self.users:
            return
        try:
            if self.sender is not None:
                self.sender.close()
                await asyncio.sleep(0)  # the socket is closed in the loop's next turn
        finally:
            if self._owned:
                await self.client.aclose()


class LoopClients:
    """The clients of one store. Each is kept by its event loop, so that it goes when the loop is thrown away unclosed.

    Args:
        given: the user's asyncio client, for the first loop that needs one; None: there is none that can be used.
        make: makes another one.
    """

    def __init__(self, given: Any, make: Callable[[], Any]) -> None:
        self._make = make
        self._free = given  # no loop has it yet

    def peek(self) -> LoopClient | None:
        """What is there for the running loop."""
        clients = getattr(asyncio.get_running_loop(), CLIENTS, None)
        return None if clients is None else clients.get(self)

    def current(self) -> LoopClient:
        """What there is for the running loop, made at the first use."""
        own = self.peek()
        if own is None:
            client, self._free = self._free, None
            own = LoopClient(self._make(), owned=True) if client is None else LoopClient(client, owned=False)
            loop: Any = asyncio.get_running_loop()
            if not hasattr(loop, CLIENTS):
                setattr(loop, CLIENTS, WeakKeyDictionary[LoopClients, LoopClient]())
            getattr(loop, CLIENTS)[self] = own
        return own

    async def aclose(self) -> None:
        """Close what was opened in the running loop."""
        own = self.peek()
        if own is not None and own.life is not None:
            del getattr(asyncio.get_running_loop(), CLIENTS)[self]  # first: who comes now gets another one
            await own.life.aclose()
