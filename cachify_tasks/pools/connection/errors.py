"""What goes wrong with a ConnectionPool alone."""

from __future__ import annotations

from ..errors import PoolError


class PoolTimeout(PoolError, TimeoutError):
    """What was waited for did not come in time."""


class NotLent(PoolError, ValueError):
    """This connection is not lent by this pool: it was given back already, or is somebody else's."""
