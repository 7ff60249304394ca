"""A store with its settings, and the drivers of flows on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar
from weakref import WeakSet

from .._core.flows import Flow
from .._fork import after_in_child
from ..settings import Settings
from .drivers import adrive, drive
from .event_log import EventLog
from .events import Emitter, Event
from .slot_keeper import SlotKeeper

if TYPE_CHECKING:
    from .._store.interface import Store

T = TypeVar("T")
_runtimes: Final[WeakSet[Runtime]] = WeakSet()
runtime_created_hooks: Final[list[Callable[[Runtime], None]]] = []  # the test kit gives each new one its own store


class Runtime:
    """What a `Cachify` or an app runs on.

    `store` changes only in tests; everything else stays as it was made.

    Args:
        store: where slots and values are.
        settings: checked settings.
        slot_exp_ms: the hard limit of slots for which none is given; None: no hard limit.
        default_ttl_ms: how long `cached` keeps values for which no time is given; None: until they are deleted.
    """

    def __init__(
        self, store: Store, settings: Settings, *, slot_exp_ms: int | None = None, default_ttl_ms: int | None = None
    ) -> None:
        self.store = store
        self.settings = settings
        self.slot_exp_ms = slot_exp_ms
        self.default_ttl_ms = default_ttl_ms
        self.lease_ms = settings.lease_ms
        self.start_ms = settings.start_ms
        self.keeper = SlotKeeper(self)
        self.emit: Callable[[Event], None] = Emitter(EventLog()).emit
        _runtimes.add(self)
        for hook in runtime_created_hooks:
            hook(self)

    def run(self, flow: Flow[T]) -> T:
        """Do a flow here and now."""
        return drive(flow, self.store)

    async def arun(self, flow: Flow[T]) -> T:
        """Do a flow in the running event loop."""
        return await adrive(flow, self.store)

    def close(self) -> None:
        self.store.close()


def runtimes() -> list[Runtime]:
    """Those of this process that are in use."""
    return list(_runtimes)


def _reset_stores() -> None:
    for runtime in runtimes():
        runtime.store.reset_after_fork()


after_in_child(_reset_stores)
