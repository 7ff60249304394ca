"""Pools inside one process, for asyncio: `AdvancedPool` runs blocking calls in threads, `ConnectionPool` lends
connections. They need no server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .advanced import AdvancedPool, AdvancedPoolStats
    from .connection import ConnectionPool, ConnectionPoolStats, Lending, Loan, NotLent, PoolTimeout
    from .errors import PoolError, PoolFull, PoolShutDown

__all__ = [
    "AdvancedPool",
    "AdvancedPoolStats",
    "ConnectionPool",
    "ConnectionPoolStats",
    "Lending",
    "Loan",
    "NotLent",
    "PoolError",
    "PoolFull",
    "PoolShutDown",
    "PoolTimeout",
]

_HOMES = {
    "AdvancedPool": "advanced",
    "AdvancedPoolStats": "advanced",
    "ConnectionPool": "connection",
    "ConnectionPoolStats": "connection",
    "Lending": "connection",
    "Loan": "connection",
    "NotLent": "connection",
    "PoolError": "errors",
    "PoolFull": "errors",
    "PoolShutDown": "errors",
    "PoolTimeout": "connection",
}


def __getattr__(name: str) -> Any:
    """A pool's code is loaded when the pool is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
