"""The errors of the pools of reusable objects."""

from __future__ import annotations

from ..errors import CachifyError


class CachePoolError(CachifyError):
    """An element was returned that is not lent out, or the pool is closed."""


class CachePoolGeneratorError(CachePoolError):
    """The generator is not callable."""
