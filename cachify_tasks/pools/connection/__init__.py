"""Connections that many coroutines take turns in."""

from .errors import NotLent, PoolTimeout
from .lending import Lending
from .pool import ConnectionPool
from .records import ConnectionPoolStats, Loan

__all__ = ["ConnectionPool", "ConnectionPoolStats", "Lending", "Loan", "NotLent", "PoolTimeout"]
