"""A store that somebody meddles with in the middle of a command, and what strikes there."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest

from cachify_tasks import Cachify
from cachify_tasks._core.commands import Command

Test = TypeVar("Test", bound=Callable[..., object])


class Struck(BaseException):
    """What a signal's handler raises."""


def struck_by_signals(test: Test) -> Test:
    """Mark a test in which signals strike at random moments.

    They are not traced: coverage's tracer takes a lock for each new file, and a signal that raises there leaves it
    locked. Nor can the time limit come by a signal.
    """
    for mark in (
        pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an interval timer"),
        pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # it strikes in finalizers too
        pytest.mark.usefixtures("untraced"),
        pytest.mark.timeout(240, method="thread"),
    ):
        test = mark(test)
    return test


class Meddler:
    """Stands before a store and calls `meddle(command, moment)`, "before" and "after" each command."""

    def __init__(self, store: Any, meddle: Callable[[Command, str], None]) -> None:
        self._store, self._meddle = store, meddle

    def execute(self, command: Command) -> Any:
        self._meddle(command, "before")
        answer = self._store.execute(command)
        self._meddle(command, "after")
        return answer

    def begin(self, command: Command) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self.aexecute(command))

    async def aexecute(self, command: Command) -> Any:
        self._meddle(command, "before")
        answer = await self._store.aexecute(command)
        self._meddle(command, "after")
        return answer

    def execute_many(self, commands: Sequence[Command]) -> list[Any]:
        return [self.execute(command) for command in commands]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def meddled(cachify: Cachify, meddle: Callable[[Command, str], None]) -> Meddler:
    """Put a Meddler before this instance's store."""
    runtime = cachify._runtime
    meddler: Any = Meddler(runtime.store, meddle)
    runtime.store = meddler
    return meddler  # type: ignore[no-any-return]


def interrupting(script: str, moment: str, error: BaseException) -> Callable[[Command, str], None]:
    """Raises once, at that moment of the first command of that script, as a signal's handler would."""
    due = [error]

    def meddle(command: Command, now: str) -> None:
        if due and now == moment and getattr(command, "script", None) == script:
            raise due.pop()

    return meddle
