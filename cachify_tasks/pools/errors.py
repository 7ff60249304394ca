"""What goes wrong with a pool inside a process; all share the root `PoolError`."""

from __future__ import annotations

import asyncio


class PoolError(Exception):
    """The root. Raised itself where a pool is used before its start, from another event loop or after a fork."""


class PoolFull(PoolError, asyncio.QueueFull):
    """There is no place, and the call was not to wait for one, or has waited long enough."""


class PoolShutDown(PoolError):
    """The pool is being stopped, or has been: it takes nothing new."""
