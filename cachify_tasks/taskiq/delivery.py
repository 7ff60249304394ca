"""One delivery of a Taskiq message, as `_worker` sees it."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from taskiq.acks import AckableMessage, AcknowledgeType
from taskiq.message import TaskiqMessage
from taskiq.receiver.params_parser import parse_params
from taskiq.utils import maybe_awaitable

from .._core.policy import Policy
from .._worker.limits import TaskLimit
from .._worker.loop_delivery import Work
from .._worker.port import DeliveryState, Stored
from .._worker.verdicts import AskAgain, Verdict
from .envelope import Envelope, attempt_of

if TYPE_CHECKING:
    from .gate import Gate

HERE: Final = f"{socket.gethostname()}:"


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What a worker needs to know of a task, found once. Both are None where it has no pool."""

    policy: Policy | None
    limit: TaskLimit | None


class HandedOver(AckableMessage):
    """A message that the gate has let in, on its way through the receiver's own `callback`."""


class TaskiqDelivery:
    """What is not said here is in `Delivery` (`_worker/port.py`).

    Attributes:
        message: parsed by us; Taskiq parses the bytes again, so changes of this one are not seen.
        verdict: what was decided last.
        acked: its message was acknowledged, or cannot be.
        work: of a task that runs in a thread or process: it may go on when Taskiq has given it up.
    """

    def __init__(
        self, gate: Gate, raw: bytes | AckableMessage, message: TaskiqMessage, facts: TaskFacts, header: str | None
    ) -> None:
        self.gate = gate
        self.raw = raw
        self.message = message
        self.facts = facts
        self.state = DeliveryState()
        self.verdict: Verdict = AskAgain()
        self.attempt, self.header = attempt_of(message, header)
        self.is_copy = self.header.is_copy or isinstance(raw, AckableMessage)  # none says that it was delivered before
        self.acked = not isinstance(raw, AckableMessage)
        self.work: Work | None = None
        if self.header.hint is not None:
            self.state.stored = Stored.of_hint(self.header.hint)

    @property
    def policy(self) -> Policy | None:
        return self.facts.policy

    @property
    def limit(self) -> TaskLimit | None:
        return self.facts.limit

    @property
    def task_name(self) -> str:
        return self.message.task_name

    @property
    def label(self) -> str:
        return f"{self.message.task_name} @{HERE}{os.getpid()}"

    def arguments(self) -> tuple[tuple[object, ...], Mapping[str, object]]:
        """As the function will get them: parsed by its annotations, where the receiver does that."""
        receiver, message, name = self.gate.receiver, self.message, self.message.task_name
        if receiver.validate_params and self.policy is not None and self.policy.key.takes_arguments:
            if name not in receiver.known_tasks:
                receiver._prepare_task(name, self.policy.function)
            parse_params(receiver.task_signatures.get(name), receiver.task_hints.get(name) or {}, message)
        return tuple(message.args), message.kwargs

    def own_arguments(self) -> tuple[tuple[object, ...], Mapping[str, object]]:
        return tuple(self.message.args), self.message.kwargs

    @property
    def data(self) -> bytes:
        return self.raw.data if isinstance(self.raw, AckableMessage) else self.raw

    def envelope(self) -> bytes:
        header = replace(self.header, sending=self.attempt.sending, hint=None).encode(self.attempt)
        return Envelope.sealed(self.gate.queue, header, self.data)

    def message_priority(self) -> int:
        return int(self.message.labels.get("priority", 0))

    def for_taskiq(self) -> bytes | AckableMessage:
        """The message as Taskiq's receiver is to get it: we see when it acknowledges."""
        if self.state.stored is None and not isinstance(self.raw, AckableMessage):
            return self.raw
        return HandedOver(data=self.data, ack=self.acknowledge)

    async def acknowledge(self) -> None:
        """Be done with the message: the broker's, or the one that the store keeps."""
        if self.state.stored is not None and not self.state.stored.hinted:
            if not self.acked:
                self.acked = True
                self.gate.core.on_acknowledged(self, early=self._acknowledges_early)
        elif not self.acked:
            await self.acknowledge_to_broker()

    async def acknowledge_to_broker(self) -> None:
        if isinstance(self.raw, AckableMessage):
            await maybe_awaitable(self.raw.ack())
        self.acked = True

    @property
    def _acknowledges_early(self) -> bool:
        """Before the run ends, so that the store need not keep the message."""
        given = str.lower(self.message.labels.get("ack_type", self.gate.receiver.ack_time))
        return given in (AcknowledgeType.WHEN_RECEIVED, AcknowledgeType.MANUAL)
