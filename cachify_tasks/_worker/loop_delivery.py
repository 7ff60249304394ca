"""A delivery of a framework whose tasks run in an event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .._core.policy import Policy
from .port import Delivery
from .verdicts import Verdict


class Work(Protocol):
    """What a thread or process does for a task: a `concurrent.futures.Future`."""

    def done(self) -> bool: ...

    def add_done_callback(self, fn: Callable[..., object], /) -> None: ...


class LoopDelivery(Delivery, Protocol):
    """A delivery in an event loop.

    Attributes:
        verdict: what was decided last.
        is_copy: may the broker have delivered another message of this attempt before?
        acked: its message was acknowledged, or cannot be.
        work: of a task that runs in a thread or process: it may go on when the framework has given it up.
    """

    verdict: Verdict
    is_copy: bool
    acked: bool
    work: Work | None

    @property
    def policy(self) -> Policy | None:
        """Of its task; None: it has no pool, or none any more."""

    async def acknowledge(self) -> None:
        """Be done with the message: the broker's, or the one that the store keeps."""

    async def acknowledge_to_broker(self) -> None:
        """Be done with the message that the broker has delivered."""
