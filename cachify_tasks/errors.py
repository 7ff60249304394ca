"""Every error that cachify_tasks raises on purpose; they share the root `CachifyError`."""

from __future__ import annotations

__all__ = [
    "CachifyError",
    "CachifyInitError",
    "CachifyLockError",
    "CachifyPoolFullError",
    "CachifySettingError",
    "CachifyStoreError",
    "LeaseLost",
]


class CachifyError(Exception):
    """The root of this package's errors."""


class CachifyInitError(CachifyError):
    """Something was used before `init_cachify()` or `setup(app)`, or two stores are in conflict."""


class CachifySettingError(CachifyError, ValueError):
    """A setting has an unknown name or a value it cannot take; the message lists what is valid."""


class CachifyLockError(CachifyError):
    """A lock is held by somebody else."""


class CachifyStoreError(CachifyError):
    """The store could not be reached or refused a command; the cause is in `__cause__`."""


class LeaseLost(CachifyError):
    """This run's lease ran out: its slot counts no longer, and somebody else may have it."""


class CachifyPoolFullError(CachifyError):
    """All slots of a pool are taken.

    Attributes:
        key: the pool's resolved key.
        limit: how many holders it takes; None when unknown.
        held: how many it had when it refused; None when unknown.
    """

    def __init__(self, message: str = "", key: str = "", limit: int | None = None, held: int | None = None) -> None:
        self._message = message or f"pool {key!r} is full: {held} of {limit} slots are taken"
        # All of it: a result backend makes an error anew from its `args`.
        super().__init__(self._message, key, limit, held)
        self.key, self.limit, self.held = key, limit, held

    def __str__(self) -> str:
        return self._message
