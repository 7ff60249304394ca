"""One delivery of a Taskiq message, as `_worker` sees it; what is in a message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from taskiq.abc.broker import AsyncBroker
from taskiq.acks import AckableMessage, AcknowledgeType
from taskiq.message import TaskiqMessage
from taskiq.receiver.params_parser import parse_params
from taskiq.utils import maybe_awaitable

from .._worker.attempt import Attempt, Header
from .._worker.loop_delivery import LoopDelivery

if TYPE_CHECKING:
    from .gate import Gate

LABEL: Final = "cachify_attempt"  # a label of messages, which tasks do not see


class HandedOver(AckableMessage):
    """A message that the gate has let in, on its way through the receiver's own `callback`."""


class TaskiqDelivery(LoopDelivery):
    """message: parsed by us; Taskiq parses the bytes again, so changes of this one are not seen."""

    def __init__(
        self, gate: Gate, raw: bytes | AckableMessage, message: TaskiqMessage, header: str | None = None
    ) -> None:  # fmt: skip
        self._gate, self._raw, self.message = gate, raw, message
        ackable = isinstance(raw, AckableMessage)
        attempt, known = attempt_of(message, header)
        super().__init__(gate, data_of(raw), attempt, known, gate.tasks.get(message.task_name), ackable=ackable)

    @property
    def task_name(self) -> str:
        return self.message.task_name

    def arguments(self) -> tuple[tuple[object, ...], Mapping[str, object]]:
        """As the function will get them: parsed by its annotations, where the receiver does that."""
        receiver, name = self._gate.receiver, self.message.task_name
        if receiver.validate_params and self.policy is not None and self.policy.key.takes_arguments:
            parse_params(receiver.task_signatures[name], receiver.task_hints[name], self.message)
        return self.own_arguments()

    def own_arguments(self) -> tuple[tuple[object, ...], Mapping[str, object]]:
        return tuple(self.message.args), self.message.kwargs

    def message_priority(self) -> int:
        return int(self.message.labels.get("priority", 0))

    def for_taskiq(self) -> bytes | AckableMessage:
        """The message as Taskiq's receiver is to get it: we see when it acknowledges."""
        is_first = self.state.stored is None and not isinstance(self._raw, AckableMessage)
        return self.data if is_first else HandedOver(data=self.data, ack=self.acknowledge)

    async def acknowledge_to_broker(self) -> None:
        if isinstance(self._raw, AckableMessage):
            await maybe_awaitable(self._raw.ack())

    @property
    def acknowledges_early(self) -> bool:
        given = str.lower(self.message.labels.get("ack_type", self._gate.receiver.ack_time))
        return given in (AcknowledgeType.WHEN_RECEIVED, AcknowledgeType.MANUAL)


def data_of(raw: bytes | AckableMessage) -> bytes:
    return raw.data if isinstance(raw, AckableMessage) else raw


def attempt_of(parsed: TaskiqMessage, header: str | None = None) -> tuple[Attempt, Header]:
    """Which attempt a message is of. A retry and a requeue keep the id and count up a label."""
    attempt = Attempt(parsed.task_id, _count(parsed, "_retries"), _count(parsed, "X-Taskiq-requeue"))
    found = Header.decode(header or parsed.labels.get(LABEL), attempt)
    return replace(attempt, handovers=found.handovers, sending=found.sending), found


def _count(message: TaskiqMessage, label: str) -> int:
    try:
        return int(message.labels.get(label, 0))
    except (TypeError, ValueError):  # somebody else's label of that name
        return 0


def queue_of(broker: AsyncBroker) -> str:
    """Names the queue that a broker reads: workers of brokers with the same name get the same messages."""
    names = (getattr(broker, name, None) for name in ("queue_name", "_queue_name", "subject"))
    queue = next((name for name in names if isinstance(name, str)), "")
    return f"{type(broker).__qualname__}:{queue}"
