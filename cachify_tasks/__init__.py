"""At most N at a time, per key, across all workers: slots in Redis for functions and Celery tasks."""

from ._io.slot import Slot, current_slot
from .cachify import AsyncClient, Cachify, Decoder, Encoder, SyncClient, cached, init_cachify
from .errors import (
    CachifyError,
    CachifyInitError,
    CachifyLockError,
    CachifyPoolFullError,
    CachifySettingError,
    CachifyStoreError,
    LeaseLost,
)
from .slots import AsyncPoolWrappedF, SyncPoolWrappedF, WrappedFunctionPool, pool, pooled
from .strategies import CachedFallback, Callback, Drop, FullPool, Raise, Reschedule, Strategy

__version__ = "0.1.0"

__all__ = [
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
    "Raise",
    "Reschedule",
    "Slot",
    "Strategy",
    "SyncClient",
    "SyncPoolWrappedF",
    "WrappedFunctionPool",
    "__version__",
    "cached",
    "current_slot",
    "init_cachify",
    "pool",
    "pooled",
]
