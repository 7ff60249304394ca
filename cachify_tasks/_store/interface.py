"""What every store offers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from .._core.commands import Command
from .._core.wait_flow import Waiters


class Store(Protocol):
    """Slots and cached values, in a server or in memory."""

    @property
    def shown(self) -> str:
        """Where it is, as messages show it: without a password."""

    @property
    def local(self) -> bool:
        """Is it the memory of this process, which answers at once?"""

    @property
    def wakeups(self) -> Waiters:
        """The functions of this process that wait for a slot."""

    def execute(self, command: Command) -> Any:
        """The answer to a command."""

    async def aexecute(self, command: Command) -> Any:
        """`execute` for code in an event loop."""

    def begin(self, command: Command) -> asyncio.Future[Any]:
        """The answer to come, which cannot be cancelled: the answer comes before the cancellation does."""

    def execute_many(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to several scripts, in one round trip; one that is an error is given as a value."""

    def eviction(self) -> str:
        """What the server does when its memory is full; empty: it does not say."""

    def close(self) -> None:
        """Close what it has opened for synchronous code."""

    async def aclose(self) -> None:
        """Close what it has opened in the running event loop."""

    def reset_after_fork(self) -> None:
        """Forget what belongs to the parent process."""
