"""A store with its settings, and what the flows ask of their surroundings."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable
from typing import Any, Final, TypeVar
from weakref import WeakSet

from .._core.commands import Acquire, Release, Reply, SlotRequest
from .._core.flows import Flow, Wakeup
from .._log_throttle import LogThrottle
from ..errors import CachifyInitError, CachifyStoreError
from ..settings import UNSET, Settings, Unset
from .drivers import adrive, drive
from .lease_renewer import lease_renewer
from .slot import Slot

T = TypeVar("T")
logger = logging.getLogger("cachify_tasks")

FUNCTION_TOMB_MS: Final = 5_000  # a plain call's release is remembered while a client may still send it again
_runtimes: WeakSet[Runtime] = WeakSet()
runtime_created_hooks: Final[
    list[Callable[[Runtime], None]]
] = []  # told of each engine that is made: the test kit gives it a store


class Names:
    """Names of arrivals, unique over processes and forks."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self._process = f"{os.getpid():x}-{os.urandom(6).hex()}"
        self._count = itertools.count(1)

    def next(self) -> str:
        return f"{self._process}-{next(self._count):x}"


names: Final = Names()


class Runtime:
    """What a `Cachify` runs on: the `Keeper` and the `Host` of its flows.

    Args:
        store: where slots and values are.
        settings: checked settings.
        slot_exp_ms: the hard limit of slots for which none is given; None: no hard limit.
    """

    def __init__(
        self,
        store: Any,
        settings: Settings,
        slot_exp_ms: int | None = None,
        default_ttl_ms: int | None = None,
    ):
        self.store, self.settings = store, settings
        self.slot_exp_ms, self.default_ttl_ms = slot_exp_ms, default_ttl_ms
        self.lease_ms, self.start_ms = settings.lease_ms, settings.start_ms
        self._log_throttle = LogThrottle()
        _runtimes.add(self)
        for tell in runtime_created_hooks:
            tell(self)

    def run(self, flow: Flow[T]) -> T:
        return drive(flow, self.store)

    async def arun(self, flow: Flow[T]) -> T:
        return await adrive(flow, self.store)

    def ask(self, pool: str, limit: int, slot_exp_ms: int | Unset | None, label: str) -> Acquire:
        """The command by which a plain call asks for a slot."""
        name = names.next()
        hard = self.slot_exp_ms if slot_exp_ms is UNSET else slot_exp_ms
        return Acquire(
            pool=pool, holder=name, request_id=name, limit=limit, lease_ms=self.lease_ms, start_ms=self.start_ms,
            slot_exp_ms=hard or 0, label=label, first_delivery=True,
        )  # fmt: skip

    def granted(self, ask: SlotRequest, reply: Reply, tomb_ms: int = FUNCTION_TOMB_MS) -> Slot:
        slot = Slot(self.store, ask.pool, ask.holder, reply.token, ask.request_id, ask.lease_ms, ask.start_ms, tomb_ms)
        lease_renewer.add(slot)
        return slot

    def ended(self, slot: Slot) -> Release | None:
        lease_renewer.remove(slot)
        return None if slot.inherited else slot.release_command()

    def told(self, ask: SlotRequest, reply: Reply) -> None:
        if reply.previous_limit:
            self._log_throttle.once(
                ("limit", ask.pool),
                "pool %r is given two limits, %d and %d; the last one counts",
                ask.pool, reply.previous_limit, ask.limit,
            )  # fmt: skip

    def lost(self, slot: Slot) -> None:
        if not slot.lost:
            slot.mark_lost()
            logger.warning("the lease of %r on pool %r was lost before its run ended", slot.holder, slot.key)

    def unreachable(self, error: CachifyStoreError, doing: str) -> None:
        self._log_throttle.throttled(("store", doing), "%s: %s", doing, error)

    def wakeup(self, holder: str) -> Wakeup:
        wakeup: Wakeup = self.store.wakeups.wakeup(holder)
        return wakeup

    @property
    def listening(self) -> bool:
        return bool(self.store.wakeups.listening)

    def later(self, command: Release) -> None:
        self.store.wakeups.later(command)

    def unkept(self, name: str, error: Exception) -> None:
        self._log_throttle.once(("unkept", name), "the result of %s cannot be pickled and is not kept: %s", name, error)

    def full(self, key: str, limit: int, answer: str) -> None:
        """Say that a pool was full: one line per key in ten seconds, with a count."""
        self._log_throttle.throttled(
            ("full", key), "pool %r is full (limit %d): %s", key, limit, answer, level=logging.INFO
        )

    def close(self) -> None:
        self.store.close()


def runtimes() -> list[Runtime]:
    """Those of this process that are in use."""
    return list(_runtimes)


def _after_fork() -> None:
    names.renew()
    for runtime in runtimes():
        runtime.store.reset_after_fork()
        runtime._log_throttle = LogThrottle()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


_global: Runtime | None = None
_chosen = False  # by init_cachify()
runtime_providers: Final[list[Callable[[], Runtime | None]]] = []  # asked when there was no init_cachify()


def global_runtime() -> Runtime:
    """The engine of the last `init_cachify()`.

    Raises:
        CachifyInitError: there was none.
    """
    if _global is None:
        supplied = next(filter(None, (supply() for supply in runtime_providers)), None)
        if supplied is None:
            raise CachifyInitError(
                "Cachify is not initialized, did you forget to call `init_cachify`? Tasks of a Celery app need "
                "`cachify_tasks.celery.setup(app)`"
            )
        set_global_runtime(supplied)
        return supplied
    return _global


def peek_global_runtime() -> Runtime | None:
    return _global


def chosen_runtime() -> Runtime | None:
    """The engine of `init_cachify()`, if it was called; not one that an app has supplied."""
    return _global if _chosen else None


def set_global_runtime(runtime: Runtime | None, *, chosen: bool = False) -> None:
    global _global, _chosen
    _global, _chosen = runtime, chosen
