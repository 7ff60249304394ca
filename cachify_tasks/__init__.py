"""At most N at a time, per key, across all workers: slots in Redis for functions and Celery tasks."""

from importlib import import_module
from typing import TYPE_CHECKING

from .errors import (
    CachifyError,
    CachifyInitError,
    CachifyLockError,
    CachifyPoolFullError,
    CachifySettingError,
    CachifyStoreError,
    LeaseLost,
)

if TYPE_CHECKING:
    from ._runtime.acquired_slot import AcquiredSlot, PendingAcquire
    from ._runtime.slot import Slot, current_slot
    from .caching import Decoder, Encoder, cached
    from .instance import AsyncClient, Cachify, SyncClient, init_cachify
    from .pooling import AsyncPoolWrappedF, SyncPoolWrappedF, WrappedFunctionPool, pool, pooled
    from .strategies import CachedFallback, Callback, Drop, FullPool, Park, Raise, Reschedule, Strategy, Wait

__version__ = "0.1.0"

__all__ = [
    "AcquiredSlot",
    "AsyncClient",
    "AsyncPoolWrappedF",
    "CachedFallback",
    "Cachify",
    "CachifyError",
    "CachifyInitError",
    "CachifyLockError",
    "CachifyPoolFullError",
    "CachifySettingError",
    "CachifyStoreError",
    "Callback",
    "Decoder",
    "Drop",
    "Encoder",
    "FullPool",
    "LeaseLost",
    "Park",
    "PendingAcquire",
    "Raise",
    "Reschedule",
    "Slot",
    "Strategy",
    "SyncClient",
    "SyncPoolWrappedF",
    "Wait",
    "WrappedFunctionPool",
    "__version__",
    "cached",
    "current_slot",
    "init_cachify",
    "pool",
    "pooled",
]

# Each name is imported when it is first used: `cachify_tasks.cachepool` comes without the store and its client.
_HOMES = {
    "._runtime.acquired_slot": "AcquiredSlot PendingAcquire",
    "._runtime.slot": "Slot current_slot",
    ".caching": "Decoder Encoder cached",
    ".instance": "AsyncClient Cachify SyncClient init_cachify",
    ".pooling": "AsyncPoolWrappedF SyncPoolWrappedF WrappedFunctionPool pool pooled",
    ".strategies": "CachedFallback Callback Drop FullPool Park Raise Reschedule Strategy Wait",
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names.split():
            value: object = getattr(import_module(home, __name__), name)
            globals()[name] = value
            return value
        if home == f".{name}":
            return import_module(home, __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
