"""A TCP proxy that makes a network go wrong on demand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.support.resp import Splitter, command_name, is_push
from tests.support.waiting import PATIENCE_S

T = TypeVar("T")
# What arrived -> what is passed on, and whether the connection goes on after that.
Choose = Callable[[bytes], tuple[bytes, bool]]

HOST = "127.0.0.1"
CHUNK = 65536


class FaultProxy:
    """Forwards a local port to `target_port`, and does damage when told to.

    Its counters: `connections` (accepted so far), `bytes_up` (to the server), `bytes_down` (to the
    client), `commands` and `replies` (whole messages forwarded), `dropped` (replies swallowed).
    Its `latency`, in seconds each way, may be set at any time.

    Args:
        target_port: Port of the real server on 127.0.0.1.
        resp: Whether Redis is spoken. False: bytes pass untouched, nothing can be dropped and no
            commands are counted.

    Example:
        with FaultProxy(server.port) as proxy:
            client = redis.Redis.from_url(proxy.url)
            proxy.drop_replies(1, command="INCR")
    """

    def __init__(self, target_port: int, *, resp: bool = True) -> None:
        self.target_port = target_port
        self.resp = resp
        self.port = 0
        self.latency = 0.0
        self.connections = self.bytes_up = self.bytes_down = 0
        self.commands = self.replies = self.dropped = 0
        self._drops_left = 0
        self._drop_command: str | None = None
        self._cuts_left = 0
        self._cut_command: str | None = None
        self._open: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._passing: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._serve, name="fault-proxy", daemon=True)

    @property
    def url(self) -> str:
        """The proxy as a redis:// URL, database 0."""
        return f"redis://{HOST}:{self.port}/0"

    def start(self) -> Self:
        """Listen on a free port; returns itself."""
        self._thread.start()
        self._call(self._listen())
        return self

    def stop(self) -> None:
        """Close every connection, and end."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def drop_replies(self, count: int, *, command: str | None = None) -> None:
        """Swallow the next `count` replies, then close the connection of the last one.

        The server has run the commands; the client never learns it. With `command`, only replies
        to that command (such as "EVALSHA") are swallowed and counted.
        """
        assert self.resp, "only a proxy that speaks Redis can drop replies"
        self._drop_command = command.upper() if command else None
        self._drops_left = count

    def cut_requests(self, count: int, *, command: str | None = None) -> None:
        """Close the connection in place of forwarding, for the next `count` commands.

        The server never sees them.
        """
        assert self.resp, "only a proxy that speaks Redis can cut requests"
        self._cut_command = command.upper() if command else None
        self._cuts_left = count

    def blackhole(self) -> None:
        """Let nothing through, and close nothing; `heal` delivers what was held back."""
        self._call(self._set_passing(passing=False))

    def cut(self) -> None:
        """Close every open connection in an orderly way. New ones are welcome."""
        self._call(self._drop_all(reset=False))

    def reset(self) -> None:
        """End every open connection with a TCP reset. New ones are welcome."""
        self._call(self._drop_all(reset=True))

    def refuse(self) -> None:
        """Refuse new connections until `heal`. Open ones stay: see `cut`."""
        self._call(self._unlisten())

    def heal(self) -> None:
        """Be a good network again: no fault, no latency; counters stay."""
        self.latency = 0.0
        self._drops_left = self._cuts_left = 0
        self._call(self._set_passing(passing=True))
        self._call(self._listen())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    async def _listen(self) -> None:
        if self._passing is None:
            self._passing = asyncio.Event()
            self._passing.set()
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accept, HOST, self.port)
            self.port = self._listener.sockets[0].getsockname()[1]

    async def _unlisten(self) -> None:
        if self._listener is not None:
            # Not wait_closed(): from Python 3.12.1 on it waits for the open connections too.
            self._listener.close()
            self._listener = None

    async def _set_passing(self, *, passing: bool) -> None:
        assert self._passing is not None
        if passing:
            self._passing.set()
        else:
            self._passing.clear()

    async def _drop_all(self, *, reset: bool) -> None:
        for connection in list(self._open):
            connection.close(reset=reset)
        # The ends are closed at the loop's next turn; after that the caller may rely on it.
        await asyncio.sleep(0)

    async def _close(self) -> None:
        await self._unlisten()
        await self._drop_all(reset=False)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        # A cancelled handler would be reported by asyncio as an unhandled error.
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await self._forward(reader, writer)
        writer.close()
        self._tasks.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(HOST, self.target_port)
        connection = _Connection(writer, server_writer)
        self._open.add(connection)
        ways = [
            asyncio.create_task(self._pump(reader, server_writer, self._up(connection))),
            asyncio.create_task(self._pump(server_reader, writer, self._down(connection))),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            connection.close()
            self._open.discard(connection)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        choose: Choose,
    ) -> None:
        """Read ahead and send each piece when it is due: latency costs no throughput."""
        due: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue()
        sender = asyncio.create_task(self._send(due, writer))
        try:
            go_on = True
            while go_on and (data := await reader.read(CHUNK)):
                chosen, go_on = choose(data)
                due.put_nowait((self._loop.time() + self.latency, chosen))
            due.put_nowait((self._loop.time() + self.latency, None))
            await sender
        finally:
            sender.cancel()

    async def _send(self, due: asyncio.Queue[tuple[float, bytes | None]], writer: asyncio.StreamWriter) -> None:
        assert self._passing is not None
        while True:
            when, data = await due.get()
            await asyncio.sleep(max(0.0, when - self._loop.time()))
            await self._passing.wait()
            if data is None:
                return
            writer.write(data)
            with contextlib.suppress(OSError):
                await writer.drain()

    def _up(self, connection: _Connection) -> Choose:
        splitter = Splitter()

        def choose(data: bytes) -> tuple[bytes, bool]:
            if not self.resp:
                self.bytes_up += len(data)
                return data, True
            chosen = b""
            for message in splitter.feed(data):
                name = command_name(message)
                if self._cuts_left and self._cut_command in (None, name):
                    self._cuts_left -= 1
                    return chosen, False
                connection.pending.append(name)
                self.commands += 1
                self.bytes_up += len(message)
                chosen += message
            return chosen, True

        return choose

    def _down(self, connection: _Connection) -> Choose:
        splitter = Splitter()

        def choose(data: bytes) -> tuple[bytes, bool]:
            if not self.resp:
                self.bytes_down += len(data)
                return data, True
            chosen = b""
            for message in splitter.feed(data):
                # In RESP 2 the messages of a subscription answer no command either.
                answers = not is_push(message) and bool(connection.pending)
                name = connection.pending.popleft() if answers else ""
                if answers and self._drops_left and self._drop_command in (None, name):
                    self._drops_left -= 1
                    self.dropped += 1
                    if not self._drops_left:
                        return chosen, False
                    continue
                self.replies += 1
                self.bytes_down += len(message)
                chosen += message
            return chosen, True

        return choose


class _Connection:
    """Both ends of one client's connection, and the commands whose replies are still to come."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._client = client
        self._server = server
        self.pending: deque[str] = deque()

    def close(self, *, reset: bool = False) -> None:
        for writer in (self._client, self._server):
            if reset:
                raw = writer.get_extra_info("socket")
                # Lingering for no time makes the kernel send a reset.
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                writer.close()
