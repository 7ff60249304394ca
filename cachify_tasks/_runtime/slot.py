"""The handle of one granted slot, and which one the running code is in."""

from __future__ import annotations

import os
import time
from contextvars import ContextVar
from typing import Any

from .._core.commands import Release, Renew, Reply
from ..errors import CachifyError, LeaseLost
from .drivers import adrive, drive

_generation = 0  # counts forks: a slot belongs to the process that acquired it


def _count_fork() -> None:
    global _generation
    _generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


class Slot:
    """One place in a pool, held by the running code.

    Attributes:
        key: the pool's resolved key.
        holder: who the store thinks has it; for a task, its id and attempt.
        token: the fencing token: larger at every grant of this pool. A resource that remembers the largest it has seen
            can refuse a run that lost its lease (Kleppmann, "How to do distributed locking", 2016).
    """

    __slots__ = (
        "__weakref__", "_generation", "_lease_ms", "_lost", "_request_id", "_start_ms", "_store", "_tomb_ms", "holder",
        "key", "renewed_at", "token",
    )  # fmt: skip

    def __init__(
        self,
        store: Any,
        key: str,
        holder: str,
        token: int,
        request_id: str,
        lease_ms: int,
        start_ms: int,
        tomb_ms: int,
    ) -> None:
        self._store, self.key, self.holder, self.token, self._request_id = store, key, holder, token, request_id
        self._lease_ms, self._start_ms, self._tomb_ms = lease_ms, start_ms, tomb_ms
        self._lost = False
        self._generation = _generation
        self.renewed_at = time.monotonic()

    def check(self) -> None:
        """Return if this slot is still held, after renewing its lease: one trip to the store.

        Raises:
            LeaseLost: it is not; somebody else may be running.
            CachifyStoreError: the store could not be asked.

        Example:
            >>> from cachify_tasks import current_slot, init_cachify, pool
            >>> cachify = init_cachify()
            >>> with pool("reports", max_size=2):
            ...     current_slot().check()
        """
        self._judge(None if self._lost else drive(self._renewal(), self._store))

    async def acheck(self) -> None:
        """`check` for code in an event loop."""
        self._judge(None if self._lost else await adrive(self._renewal(), self._store))

    def _renewal(self) -> Any:
        return (yield self.renew_command())

    def _judge(self, reply: Reply | None) -> None:
        if reply is None or reply.status == "lost":
            self._lost = True
            raise LeaseLost(
                f"the lease of {self.holder!r} on pool {self.key!r} (token {self.token}) was lost; stop, or give the "
                "token to what you write to"
            )

    @property
    def lost(self) -> bool:
        """Is the lease known to be lost? Asks nobody; `check` does."""
        return self._lost

    def mark_lost(self) -> None:
        self._lost = True

    @property
    def lease_ms(self) -> int:
        return self._lease_ms

    @property
    def store(self) -> Any:
        return self._store

    @property
    def inherited(self) -> bool:
        """Was it acquired by the process that this one was forked from?"""
        return self._generation != _generation

    def renew_command(self) -> Renew:
        return Renew(pool=self.key, holder=self.holder, token=self.token, lease_ms=self._lease_ms)

    @property
    def request_id(self) -> str:
        """The nonce of its acquire."""
        return self._request_id

    def release_command(
        self, *, requeue: bool = False, can_start_heirs: bool = False, reserve_for_me: bool = False
    ) -> Release:
        return Release(
            pool=self.key, holder=self.holder, token=self.token, request_id=self._request_id,
            start_ms=self._start_ms, tomb_ms=self._tomb_ms,
            requeue=requeue, can_start_heirs=can_start_heirs, reserve_for_me=reserve_for_me,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<Slot {self.key!r} holder={self.holder!r} token={self.token}{' lost' * self._lost}>"


_current: ContextVar[Slot | None] = ContextVar("cachify_slot", default=None)


def current_slot() -> Slot:
    """The slot that the running code is in: the innermost one.

    Returns:
        Slot: with `key`, `holder`, `token` and `check()`.

    Raises:
        CachifyError: the running code is in none.

    Example:
        >>> from cachify_tasks import current_slot, init_cachify, pool
        >>> cachify = init_cachify()
        >>> with pool("reports", max_size=2):
        ...     current_slot().key
        'reports'
    """
    slot = _current.get()
    if slot is None:
        raise CachifyError("there is no current slot: this code does not run inside a pool")
    return slot


current = _current
