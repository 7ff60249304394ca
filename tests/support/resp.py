"""Split a stream of the Redis protocol (RESP 2 and 3) into whole messages."""

from __future__ import annotations

LINES = b"+-:_,#("
BULKS = b"$!="
AGGREGATES = b"*~>%|"


class Splitter:
    """Feed it bytes as they come; get back the messages that are complete."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        self._rest += data
        messages = []
        start = 0
        while (end := _end_of_message(self._rest, start)) is not None:
            messages.append(self._rest[start:end])
            start = end
        self._rest = self._rest[start:]
        return messages


def command_name(message: bytes) -> str:
    """Name of a command, upper case, whether sent as an array or as a plain line."""
    words = message.split(b"\r\n")[2] if message.startswith(b"*") else message
    return words.split()[0].decode("ascii", "replace").upper() if words.split() else ""


def is_push(message: bytes) -> bool:
    """Whether the server sent it unasked (RESP 3); it then answers no command."""
    return message.startswith(b">")


def _end_of_message(data: bytes, start: int) -> int | None:
    line_end = data.find(b"\r\n", start)
    if line_end < 0:
        return None
    kind, head = data[start : start + 1], data[start + 1 : line_end]
    end = line_end + 2
    if kind and kind in BULKS:
        # A length of -1 says that there is no value, and nothing follows.
        end += int(head) + 2 if int(head) >= 0 else 0
        return end if end <= len(data) else None
    if kind and kind in AGGREGATES:
        count = int(head) * (2 if kind in b"%|" else 1)
        # An attribute belongs to the message that follows it.
        for _ in range(count + (kind == b"|")):
            next_end = _end_of_message(data, end)
            if next_end is None:
                return None
            end = next_end
    return end
