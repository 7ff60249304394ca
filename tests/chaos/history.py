"""What a Redis broker did with its messages, read from its append-only file: all of its writes, in order.

kombu's Redis transport takes a message with BRPOP and only then writes it into its hash of unacknowledged ones. If the
worker is killed, or the server stopped, in between, the message is nowhere: no worker has seen it. This is the one way
to lose a message that is not ours, and the file proves it: the message's last event is that it was popped.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cachify_tasks._worker.attempt import hint_of

UNACKED = "unacked"


def writes(folder: Path, db: int) -> Iterator[list[bytes]]:
    """Every write to this database since the server's first start; it must not have rewritten its file."""
    chosen = 0
    for file in sorted(folder.rglob("*.incr.aof")):
        for command in _commands(file.read_bytes()):
            if command[0].upper() == b"SELECT":
                chosen = int(command[1])
            elif chosen == db:
                yield command


def _commands(data: bytes) -> Iterator[list[bytes]]:
    at = 0
    while at < len(data):
        line_end = data.index(b"\r\n", at)
        kind, rest = data[at : at + 1], data[at + 1 : line_end]
        at = line_end + 2
        if kind != b"*":  # a time stamp
            continue
        words = []
        for _ in range(int(rest)):
            line_end = data.index(b"\r\n", at)
            size = int(data[at + 1 : line_end])
            words.append(data[line_end + 2 : line_end + 2 + size])
            at = line_end + 2 + size + 2
        yield words


class Broker:
    """Where each message of one queue is, by its delivery tag: queued, popped, unacked or done."""

    def __init__(self, folder: Path, queue: str, db: int = 1) -> None:
        self.where: dict[str, str] = {}
        self.task: dict[str, str] = {}
        self.hints: set[str] = set()  # the store has the task; this one only says that its turn has come
        self._lists = defaultdict[bytes, deque[str]](deque)
        self._queue = queue.encode()
        for command in writes(folder, db):
            self._replay(command)

    def lost(self) -> dict[str, str]:
        """The messages that the transport lost: delivery tag -> task id, hints excepted."""
        return {tag: self.task[tag] for tag, where in self.where.items() if where == "popped" and tag not in self.hints}

    def lost_hints(self) -> int:
        return sum(where == "popped" and tag in self.hints for tag, where in self.where.items())

    def _replay(self, command: list[bytes]) -> None:
        name = command[0].upper()
        if name in (b"LPUSH", b"RPUSH") and command[1].startswith(self._queue):
            for value in command[2:]:
                self._push(command[1], value, left=name == b"LPUSH")
        elif name in (b"LPOP", b"RPOP") and command[1].startswith(self._queue):
            waiting = self._lists[command[1]]
            for _ in range(int(command[2]) if len(command) > 2 else 1):
                self.where[waiting.popleft() if name == b"LPOP" else waiting.pop()] = "popped"
        elif name == b"HSET" and command[1] == UNACKED.encode():
            for tag in command[2::2]:
                self.where[tag.decode()] = "unacked"
        elif name == b"HDEL" and command[1] == UNACKED.encode():
            for tag in command[2:]:
                if self.where[tag.decode()] == "unacked":  # else it has been put back and taken again
                    self.where[tag.decode()] = "done"

    def _push(self, queue: bytes, value: bytes, *, left: bool) -> None:
        message: Any = json.loads(value)
        tag = message["properties"]["delivery_tag"]
        self.task[tag] = message["headers"]["id"]
        if hint_of(message["headers"].get("cachify_attempt")):
            self.hints.add(tag)
        self.where[tag] = "queued"
        if left:
            self._lists[queue].appendleft(tag)
        else:
            self._lists[queue].append(tag)
