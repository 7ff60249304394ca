"""A task's message as the store keeps it while the task waits, and back."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Final, Self

from taskiq.abc.broker import AsyncBroker
from taskiq.message import TaskiqMessage

from .._worker.attempt import Attempt, Header

KIND: Final = "task/taskiq"
LABEL: Final = "cachify_attempt"  # a label of messages, which tasks do not see


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message as its broker delivered it.

    Attributes:
        queue: names the queue that it came from.
        header: what we know of its attempt.
        data: its bytes.
        message: what the broker's formatter reads in them.
    """

    queue: str
    header: str
    data: bytes
    message: TaskiqMessage

    @property
    def task_name(self) -> str:
        return self.message.task_name

    @staticmethod
    def sealed(queue: str, header: str, data: bytes) -> bytes:
        """As the store keeps it."""
        return json.dumps([queue, header]).encode() + b"\n" + data

    @classmethod
    def opened(cls, envelope: bytes, broker: AsyncBroker) -> Self:
        """What `sealed` made.

        Raises:
            Exception: this is no envelope, or the broker cannot read the message.
        """
        head, _, data = envelope.partition(b"\n")
        queue, header = json.loads(head)
        return cls(queue, header, data, broker.formatter.loads(message=data))


def read(broker: AsyncBroker, data: bytes) -> TaskiqMessage:
    """A message, its labels as they were given.

    Raises:
        Exception: it cannot be read.
    """
    message = broker.formatter.loads(message=data)
    message.parse_labels()
    return message


def attempt_of(message: TaskiqMessage, text: str | None) -> tuple[Attempt, Header]:
    """Which attempt a message with this header is of. A retry and a requeue keep the id and count up a label."""
    attempt = Attempt(message.task_id, _count(message, "_retries"), _count(message, "X-Taskiq-requeue"))
    header = Header.decode(text, attempt) if text else Header()
    return replace(attempt, handovers=header.handovers, sending=header.sending), header


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
