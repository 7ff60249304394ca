"""Replies of a server, cut out of the bytes as they come: for those who read when an event loop says so.

The part of RESP (versions 2 and 3) that answers to scripts use; https://redis.io/docs/latest/develop/reference/protocol-spec
"""

from __future__ import annotations

from typing import Any, Final

from redis import exceptions
from redis._parsers.base import BaseParser

_END: Final = b"\r\n"


class _More(Exception):
    """The rest of the reply has not come yet."""


class Replies:
    """Feeds on bytes, answers with whole replies; an error that the server gave is a value."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Any]:
        """The replies that are whole with these bytes.

        Raises:
            InvalidResponse: this is not RESP, or a part of it that no answer to our commands uses.
        """
        data, at, found = self._rest + data if self._rest else data, 0, list[Any]()
        while at < len(data):
            try:
                pushed = data[at : at + 1] == b">"
                value, at = _parsed(data, at)
            except _More:
                break
            if not pushed:  # what the server says unasked is an answer to nothing
                found.append(value)
        self._rest = data[at:]
        return found


def _parsed(data: bytes, at: int) -> tuple[Any, int]:
    """The value that begins there, and where the next one does."""
    end = data.find(_END, at)
    if end < 0:
        raise _More
    kind, line, at = data[at : at + 1], data[at + 1 : end], end + 2
    match kind:
        case b"+":
            return line, at
        case b":":
            return int(line), at
        case b"-":
            error = BaseParser.parse_error(line.decode(errors="replace"))  # type: ignore[no-untyped-call]
            return error, at
        case b"_":
            return None, at
        case b"$":
            return _bulk(data, at, int(line))
        case b"*" | b">":
            return _array(data, at, int(line))
    raise exceptions.InvalidResponse(f"the server sent {kind + line[:40]!r}, which answers no command")


def _bulk(data: bytes, at: int, length: int) -> tuple[bytes | None, int]:
    if length < 0:
        return None, at
    if len(data) < at + length + 2:
        raise _More
    return data[at : at + length], at + length + 2


def _array(data: bytes, at: int, count: int) -> tuple[list[Any] | None, int]:
    if count < 0:
        return None, at
    values = []
    for _ in range(count):
        value, at = _parsed(data, at)
        values.append(value)
    return values, at
