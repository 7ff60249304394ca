"""A task's message as the store keeps it, for frameworks whose messages are bytes, and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

P = TypeVar("P")  # what the framework reads in a message


@dataclass(frozen=True, slots=True)
class KeptMessage(Generic[P]):
    """A message as its broker delivered it.

    Attributes:
        queue: names the queue that it came from.
        header: what we know of its attempt.
        data: its bytes.
        parsed: what the framework reads in them.
    """

    queue: str
    header: str
    data: bytes
    parsed: P

    @staticmethod
    def sealed(queue: str, header: str, data: bytes) -> bytes:
        """As the store keeps it."""
        return json.dumps([queue, header]).encode() + b"\n" + data

    @classmethod
    def opened(cls, envelope: bytes, read: Callable[[bytes], P]) -> Self:
        """What `sealed` made.

        Raises:
            Exception: this is no envelope, or its message cannot be read.
        """
        head, _, data = envelope.partition(b"\n")
        queue, header = json.loads(head)
        return cls(queue, header, data, read(data))
