"""The tasks of a pool, and the user's functions that they call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Generic, TypeAlias, TypeVar, cast

from .options import Options
from .records import NO_ARGUMENTS, Arguments, Record
from .timed_call import Callers, Running, timed
from .user_functions import UserFunctions, accepts, is_async

logger = logging.getLogger("cachify_tasks.pools")

T = TypeVar("T")
V = TypeVar("V")

Work: TypeAlias = asyncio.Task[BaseException | None]  # gives the error that it met


class PoolTasks(Generic[T]):
    """
    Attributes:
        records: all connections by their keys, those that are being cleaned too.
        tasks: what runs for the pool now, with the calls that go on beyond `call_timeout`.
        callers: of each task that runs a function of the user: the task that waits for it.
        expected: what the acquires that wait can count on: an entry for each connection that is being made or checked,
            as long as that is not slow.
        previewed: idle connections among them, which are checked because an acquire waits.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.loop: asyncio.AbstractEventLoop | None = None
        self.functions = UserFunctions(must_run=options.cleaner)
        self.records: dict[int, Record[T]] = {}
        self.tasks: set[asyncio.Task[object]] = set()
        self._others: set[asyncio.Task[object]] = set()  # of `create_connection` in another event loop
        self.callers: Callers = {}
        self.expected: set[object] = set()
        self.previewed: set[object] = set()

    def serve(self) -> None:
        raise NotImplementedError

    def spawn(self, work: Coroutine[object, object, BaseException | None]) -> Work:
        task = asyncio.get_running_loop().create_task(work)
        self._own(task)
        return task

    def _own(self, task: asyncio.Task[object]) -> None:
        own = self.tasks if task.get_loop() is self.loop else self._others
        own.add(task)
        task.add_done_callback(own.discard)

    def current(self) -> asyncio.Task[object] | None:
        """The task that this code runs in, or that waits for it if it is a function of the user."""
        task = asyncio.current_task()
        return task if task is None else self.callers.get(task, task)

    def unexpect(self, entry: object) -> None:
        self.expected.discard(entry)
        self.previewed.discard(entry)

    async def _call(
        self,
        what: str,
        call: Callable[[], Awaitable[V]],
        on_overrun: Callable[[Running], None],
        expected: object = None,
    ) -> V:
        """What a function of the user gives within `call_timeout`. While it is slow, no acquire counts on it."""

        def on_slow() -> None:
            if expected is not None:
                self.unexpect(expected)
                self.serve()

        def own(running: Running) -> None:
            self._own(running)
            on_overrun(running)

        return await timed(what, call, self.options.call_timeout, self.callers, on_slow=on_slow, on_overrun=own)

    async def call_factory(self, call: Callable[[], Awaitable[T]], expected: object = None) -> T:
        """What the factory gives. What it gives too late is cleaned."""

        def clean_late(running: Running) -> None:
            running.add_done_callback(self._clean_unknown)

        return await self._call("factory", call, clean_late, expected)

    def _clean_unknown(self, running: Running) -> None:
        """A factory has ended that was given up: the pool does not know its connection."""
        if running.cancelled():
            return
        conn, error = running.result()
        if error is None and id(conn) not in self.records:
            self.clean_later(cast("T", conn))

    async def call_healthchecker(self, record: Record[T], on_overrun: Callable[[Running], None]) -> bool:
        """What the healthchecker says; True without one."""
        checker = self.options.healthchecker
        check = checker if checker is not None and is_async(checker) else self._is_healthy
        call = partial(self.functions.call, check, record.conn)
        return bool(await self._call("healthchecker", call, on_overrun, record))

    def _is_healthy(self, conn: T, /) -> object:
        """What the healthchecker says, or will say; True without one."""
        checker = self.options.healthchecker
        return True if checker is None else checker(conn)

    async def clean(self, conn: T, last: Arguments = NO_ARGUMENTS) -> None:
        """Call the cleaner, with the releaser's arguments if it takes them."""
        cleaner = self.options.cleaner
        if cleaner is None:
            return
        call = partial(self.functions.call, cleaner, conn)
        if last is not NO_ARGUMENTS and accepts(cleaner, (conn, *last.args), last.kwargs):
            call = partial(call, *last.args, **last.kwargs)
        try:
            await self._call("cleaner", call, lambda _: None)
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001  # nobody waits for it
            logger.warning("the cleaner failed: %r", error)

    def clean_later(self, conn: T) -> None:
        """Clean a connection that does not count any more."""
        self.spawn(self.clean(conn))
