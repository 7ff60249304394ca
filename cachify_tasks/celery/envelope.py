"""A task's message as the store keeps it while the task waits, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from kombu import Message
from kombu.utils import json

from .._worker.attempt import Attempt, Header

if TYPE_CHECKING:
    from .internals import Consumer

KIND: Final = "task/celery"
HEADER: Final = "cachify_attempt"

_TRANSPORT: Final = frozenset(  # belongs to a delivery and not to the message, or is in the head by another name
    {
        "delivery_info", "delivery_tag", "body_encoding", "content_type", "content_encoding", "application_headers",
        "user_id", "expiration",
    }
)  # fmt: skip
_KEEP_TAGS: Final = frozenset({"redis", "memory", "filesystem", "sql"})  # transports, by what drives them
_DELIVERY: Final = frozenset({"compression", "x-death", "x-delivery-count", "x-acquired-count"})


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message: its head as plain data, its body as it came.

    Attributes:
        head: content_type, content_encoding, headers, properties, exchange, routing_key, redelivered; queue: the queue
            that it came from, None where the transport does not tell; text: the body came as text; compression: how its
            sender compressed the body, which is kept as it was before, or None.
    """

    head: dict[str, Any]
    body: bytes

    @property
    def task(self) -> str:
        return str(self.head["headers"]["task"])

    @property
    def queue(self) -> str | None:
        return self.head["queue"]  # type: ignore[no-any-return]

    @property
    def headers(self) -> dict[str, Any]:
        return self.head["headers"]  # type: ignore[no-any-return]

    @property
    def compression(self) -> str | None:
        return self.head["compression"]  # type: ignore[no-any-return]

    @property
    def request_headers(self) -> dict[str, Any]:
        """Those that the task sees."""
        return self.headers if self.compression is None else {**self.headers, "compression": self.compression}

    @property
    def attempt(self) -> Attempt:
        """Which attempt the message is of."""
        return attempt_of(self.headers)

    @property
    def content(self) -> bytes | str:
        return self.body.decode() if self.head["text"] else self.body

    @property
    def address(self) -> tuple[str, str]:
        """Exchange and routing key by which it reaches the queue that it came from."""
        return ("", self.queue) if self.queue else (self.head["exchange"], self.head["routing_key"])

    def message(self, accept: Iterable[str] | None) -> Message:
        """As it was delivered; it cannot be acknowledged."""
        info = {name: self.head[name] for name in ("exchange", "routing_key", "redelivered")}
        return Message(
            self.content,  # type: ignore[arg-type]  # as virtual transports give it
            content_type=self.head["content_type"], content_encoding=self.head["content_encoding"],
            headers=dict(self.headers), properties=dict(self.head["properties"]), delivery_info=info, accept=accept,
        )  # fmt: skip


def attempt_of(headers: Mapping[str, Any]) -> Attempt:
    """Which attempt a message with these headers is of."""
    attempt = Attempt(headers["id"], headers.get("retries") or 0, headers.get("replaced_task_nesting") or 0)
    header = Header.decode(headers.get(HEADER), attempt)
    return replace(attempt, handovers=header.handovers, sending=header.sending)


def sending_of(message: Message) -> str:
    """What tells a message from another that a program sent under the same id, and stays when it is delivered again.

    Brokers that kombu runs itself keep a tag in each message. Others have nothing of the kind: there two messages with
    one id and the same arguments are taken for one.
    """
    transport = getattr(message.channel, "connection", None)
    if getattr(transport, "driver_type", None) in _KEEP_TAGS:
        return str(message.delivery_tag)[:8]
    return f"{crc32(_content(message)):08x}"


def _content(message: Message) -> bytes:
    body: Any = message.body  # text from virtual transports, a buffer from others
    return body.encode() if isinstance(body, str) else bytes(body)


def sealed(message: Message, queue: str | None, header: str) -> bytes:
    """The envelope of a delivered message; empty: it cannot be kept (a message of Celery's first protocol).

    Args:
        header: what we know of its attempt.
    """
    if "task" not in message.headers:
        return b""
    info = message.delivery_info or {}
    head = {
        "content_type": message.content_type,
        "content_encoding": message.content_encoding,
        "headers": {**{k: v for k, v in message.headers.items() if k not in _DELIVERY}, HEADER: header},
        "properties": {k: v for k, v in (message.properties or {}).items() if k not in _TRANSPORT},
        "exchange": info.get("exchange") or "",
        "routing_key": info.get("routing_key") or "",
        "redelivered": bool(info.get("redelivered")),
        "queue": queue,
        "text": isinstance(message.body, str),
        "compression": message.headers.get("compression"),
    }
    return json.dumps(head).encode() + b"\n" + _content(message)


def opened(data: bytes) -> Envelope:
    """What `sealed` made.

    Raises:
        ValueError: this is no envelope.
    """
    head, _, body = data.partition(b"\n")
    return Envelope(json.loads(head), body)


def queue_of(message: Message, consumer: Consumer | None) -> str | None:
    """The queue that a message came from, as far as its worker can tell."""
    tasks = None if consumer is None else consumer.task_consumer
    if tasks is None:
        return None
    info = message.delivery_info or {}
    tag = info.get("consumer_tag")
    if tag is not None:
        return next((name for name, known in tasks._active_tags.items() if known == tag), None)
    exchange, key = info.get("exchange") or "", info.get("routing_key")
    for queue in tasks.queues:
        if queue.name == key and not exchange:
            return str(queue.name)
        if queue.exchange and queue.exchange.name == exchange and queue.routing_key == key:
            return str(queue.name)
    return None
