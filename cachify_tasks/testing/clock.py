"""`memory`: the program's slots in the memory of the test, with a clock that the test moves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from .._checks import Seconds, milliseconds
from .._core.commands import Sweep
from .._core.key_commands import Pools
from .._runtime.instances import chosen_runtime, global_runtime, peek_global_runtime, set_global_runtime
from .._runtime.lease_renewer import lease_renewer
from .._runtime.runtime import Runtime, runtime_created_hooks, runtimes
from .._store.interface import Store
from .._store.memory_store import MemoryStore
from ..errors import CachifyError
from ..instance import make_runtime
from ..settings import Settings

STRIDE: Final = 43_200_000_000  # µs; shorter than the time after which memory forgets a lease that nobody renews
START_MS: Final = Settings().start_ms


class Clock:
    """The time of a memory store. It stands still until a test moves it."""

    def __init__(self) -> None:
        self._us = time.time_ns() // 1000
        self._store = MemoryStore(lambda: self._us)

    @property
    def now(self) -> float:
        """Seconds since the epoch. It begins at the time of day."""
        return self._us / 1e6

    def move(self, seconds: Seconds) -> None:
        """Let time pass while this process lives on.

        Slots stay held: their leases are renewed, as they are in real time. What no renewal saves ends: slots at their
        hard limit (`slot_exp`), cached values, slots that were lost without being released.

        Args:
            seconds: how far, a number or a timedelta; time does not go back.

        Raises:
            TypeError, ValueError: it is neither, or negative, or longer than ten years.

        Example:
            >>> from cachify_tasks import pool, testing
            >>> with testing.memory() as clock, pool("reports", max_size=1, slot_exp=60):
            ...     clock.move(45)  # past the lease of 30 s, which is renewed
            ...     before = pool("reports", max_size=1).size()
            ...     clock.move(20)  # past the hard limit
            ...     before, pool("reports", max_size=1).size()
            (1, 0)
        """
        left = milliseconds("seconds", seconds, minimum=0) * 1000
        with self._store._lock:  # nobody sees a lease that has passed and is not yet renewed
            while left:
                stride = min(left, STRIDE)
                self._us += stride
                left -= stride
                lease_renewer.renew_all(self._store)

    def stall(self, seconds: Seconds) -> None:
        """Let time pass while this process stands still, as one that is stopped or has crashed.

        Leases that run out are lost, and their slots are free for others. Holders learn it: `current_slot().lost` is
        true, `check()` raises `LeaseLost`. Leases that do not run out are renewed in the end.

        Args:
            seconds: as in `move`.

        Raises:
            TypeError, ValueError: as in `move`.

        Example:
            >>> from cachify_tasks import current_slot, pool, testing
            >>> with testing.memory() as clock, pool("reports", max_size=1):
            ...     clock.stall(31)  # the lease is 30 s
            ...     pool("reports", max_size=1).size(), current_slot().lost
            (0, True)
        """
        passed = milliseconds("seconds", seconds, minimum=0) * 1000
        with self._store._lock:
            self._us += passed
            for name in self._store.execute(Pools()):  # somebody asks: until then a late renewal saves a lease
                self._store.execute(Sweep(pool=name, start_ms=START_MS, can_start_heirs=False))
            lease_renewer.renew_all(self._store)

    def __repr__(self) -> str:
        return f"<Clock at {self.now:.3f}>"


@contextmanager
def memory() -> Iterator[Clock]:
    """While the block lasts, the slots and cached values of this process are in an empty memory, under a clock by hand.

    That holds for every instance of this process, whatever its url or clients: of `init_cachify()`, bound ones, those
    of Celery apps, made before or in the block. Their settings stay. Without `init_cachify()` there is an instance with
    the defaults. After the block all of them are where they were, and the global one is the one from before.

    Use it around whole runs: who holds a slot when the block begins or ends will not find it again. A worker in the
    test's process has to start and to end in the block.

    Example:
        >>> from cachify_tasks import cached, testing
        >>> @cached(key="rate-{currency}", ttl=60)
        ... def rate(currency: str) -> float:
        ...     print("asking")
        ...     return 1.1
        >>> with testing.memory() as clock:
        ...     rate("usd"), rate("usd")
        ...     clock.move(61)
        ...     rate("usd")
        asking
        (1.1, 1.1)
        asking
        1.1
    """
    clock, moved = Clock(), list[tuple[Runtime, Store]]()

    def move_in(runtime: Runtime) -> None:
        moved.append((runtime, runtime.store))
        runtime.store = clock._store

    before, chosen = peek_global_runtime(), chosen_runtime() is not None
    for runtime in runtimes():
        move_in(runtime)
    runtime_created_hooks.append(move_in)
    try:
        try:
            global_runtime()
        except CachifyError:  # neither init_cachify() nor an app that has said where its slots are
            set_global_runtime(make_runtime(Settings()))
        yield clock
    finally:
        runtime_created_hooks.remove(move_in)
        for runtime, store in reversed(moved):
            runtime.store = store
        set_global_runtime(before, chosen=chosen)
