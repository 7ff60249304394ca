"""A delivery of a framework whose tasks run in an event loop."""

from __future__ import annotations

import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from .._core.policy import Policy
from .attempt import Attempt, Header
from .kept_message import KeptMessage
from .known_tasks import KnownTask
from .limits import TaskLimit
from .port import DeliveryState, Stored
from .verdicts import AskAgain, Verdict

if TYPE_CHECKING:
    from .loop_transport import LoopTransport

HERE: Final = socket.gethostname()


class Work(Protocol):
    """What a thread or process does for a task: a `concurrent.futures.Future`."""

    def done(self) -> bool: ...

    def add_done_callback(self, fn: Callable[..., object], /) -> None: ...


class LoopDelivery(ABC):
    """What is not said here is in `Delivery` (`port.py`).

    Args:
        worker: which got it.
        data: the message's bytes.
        ackable: the broker waits for its acknowledgement, and may have delivered it before.

    Attributes:
        verdict: what was decided last.
        acked: its message was acknowledged, or cannot be.
        work: of a task that runs in a thread or process: it may go on when the framework has given it up.
    """

    def __init__(
        self, worker: LoopTransport[object], data: bytes, attempt: Attempt, header: Header, task: KnownTask, *,
        ackable: bool,
    ) -> None:  # fmt: skip
        self.worker = worker
        self.data = data
        self.attempt, self.header = attempt, header
        self.task = task
        self.state = DeliveryState(stored=None if header.hint is None else Stored.of_hint(header.hint))
        self.verdict: Verdict = AskAgain()
        self.is_copy = header.is_copy or ackable
        self.acked = not ackable
        self.work: Work | None = None

    @property
    @abstractmethod
    def task_name(self) -> str: ...

    @abstractmethod
    def arguments(self) -> tuple[tuple[object, ...], Mapping[str, object]]: ...

    @abstractmethod
    def own_arguments(self) -> tuple[tuple[object, ...], Mapping[str, object]]: ...

    @abstractmethod
    def message_priority(self) -> int: ...

    @property
    @abstractmethod
    def acknowledges_early(self) -> bool:
        """Before its run ends, so that the store need not keep the message?"""

    @abstractmethod
    async def acknowledge_to_broker(self) -> None:
        """Be done with the message that the broker has delivered."""

    @property
    def policy(self) -> Policy | None:
        return self.task.policy

    @property
    def limit(self) -> TaskLimit | None:
        return self.task.limit

    @property
    def label(self) -> str:
        return f"{self.task_name} @{HERE}:{os.getpid()}"

    def envelope(self) -> bytes:
        header = replace(self.header, sending=self.attempt.sending, hint=None).encode(self.attempt)
        return KeptMessage.sealed(self.worker.queue, header, self.data)

    @property
    def is_kept(self) -> bool:
        """Does the store have its message?"""
        return self.state.stored is not None and not self.state.stored.hinted

    async def acknowledge(self) -> None:
        """Be done with the message: the broker's, or the one that the store keeps."""
        if self.acked:
            return
        if not self.is_kept:
            await self.acknowledge_to_broker()
        self.acked = True
        if self.is_kept:
            self.worker.core.on_acknowledged(self, early=self.acknowledges_early)
