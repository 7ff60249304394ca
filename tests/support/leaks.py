"""What a test must not leave behind: threads, processes, keys that never expire."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable

import pytest
import redis

from tests.support.processes import running_children
from tests.support.waiting import wait_until

KINDS = ("threads", "processes", "keys")
# A thread or process that is ending may take so long.
GRACE_S = 20.0


class LeakCheck:
    """Remembers what was there before a test; `leaks` tells what is new after it."""

    def __init__(self) -> None:
        self._threads = set(threading.enumerate())
        self._processes = set(running_children())

    def leaks(self, *, allowed: frozenset[str], shared_pids: Iterable[int], redis_url: str | None) -> list[str]:
        """What is new and not allowed; `shared_pids` are servers that outlive the test."""
        found = []
        if "threads" not in allowed:
            found += [f"thread {name!r} is no daemon and runs on" for name in self._new_threads()]
        if "processes" not in allowed:
            for pid, command in self._new_processes(set(shared_pids)).items():
                found.append(f"process {pid} runs on: {command}")
                # One test's leak must not fail the tests after it.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if redis_url is not None and "keys" not in allowed:
            found += [f"key without TTL: {key}" for key in keys_without_ttl(redis_url)]
        return found

    def _new_threads(self) -> list[str]:
        def running() -> list[str]:
            return [
                thread.name for thread in threading.enumerate() if thread not in self._threads and not thread.daemon
            ]

        _give_time(lambda: not running())
        return running()

    def _new_processes(self, shared_pids: set[int]) -> dict[int, str]:
        kept = self._processes | shared_pids

        def running() -> dict[int, str]:
            return {pid: command for pid, command in running_children().items() if pid not in kept}

        _give_time(lambda: not running())
        return running()


def keys_without_ttl(redis_url: str) -> list[str]:
    """Name and type of every key that never expires."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        return sorted(f"{key} ({client.type(key)})" for key in client.scan_iter() if client.ttl(key) == -1)


def allowed_leaks(item: pytest.Item) -> frozenset[str]:
    """What the markers `leaks(*kinds, reason=...)` of this test allow."""
    allowed: set[str] = set()
    for marker in item.iter_markers("leaks"):
        unknown = set(marker.args) - set(KINDS)
        if unknown or not marker.args or not marker.kwargs.get("reason"):
            raise pytest.UsageError(
                f"{item.nodeid}: write @pytest.mark.leaks(kind, ..., reason='...') with kinds out "
                f"of {', '.join(KINDS)}; got {marker.args!r}, {marker.kwargs!r}"
            )
        allowed.update(marker.args)
    return frozenset(allowed)


def _give_time(done: Callable[[], bool]) -> None:
    with contextlib.suppress(AssertionError):
        wait_until(done, GRACE_S)
