"""The handle of one granted slot, and which one the running code is in."""

from __future__ import annotations

import asyncio
import os
import threading
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .._core.commands import Release, Renew, SlotRequest
from .._core.flows import Flow
from .._core.replies import Reply
from ..errors import CachifyError, LeaseLost
from .drivers import adrive, drive

if TYPE_CHECKING:
    from .._store.interface import Store


def caller() -> int:
    """Names the running asyncio task, or else the thread; without keeping it alive."""
    loop = asyncio._get_running_loop()
    task = None if loop is None else asyncio.current_task(loop)
    return threading.get_ident() if task is None else id(task)


@dataclass(slots=True, weakref_slot=True, eq=False, repr=False)
class Slot:
    """One of a pool's slots, held by the running code.

    The lease renewer owns `renewed_at`. Whoever learns first that the lease is lost marks it; it stays so.

    Attributes:
        token: the fencing token: larger at every grant of this pool. A resource that remembers the largest it has seen
            can refuse a run that lost its lease (Kleppmann, "How to do distributed locking", 2016).
        request: the command that was granted.
        tomb_ms: for how long the store recognises late copies of this attempt after the release.
        acquired_at, renewed_at: by the lease renewer's clock.
        pid: a slot belongs to the process that acquired it, and not to what that one forks.
        owner: the thread or asyncio task that acquired it, or runs in it; 0: none yet.
        outer: while code is in this slot, the one that was the current one before.
    """

    store: Store
    request: SlotRequest
    token: int
    tomb_ms: int
    acquired_at: float = 0.0
    renewed_at: float = 0.0
    pid: int = field(default_factory=os.getpid)
    owner: int = field(default_factory=caller)
    outer: Slot | None = None
    _lost: bool = False

    @property
    def key(self) -> str:
        """The pool's resolved key."""
        return self.request.pool

    @property
    def holder(self) -> str:
        """The name under which the store knows the holder; for a task, its id and attempt."""
        return self.request.holder

    @property
    def lease_ms(self) -> int:
        return self.request.lease_ms

    def check(self) -> None:
        """Return if this slot is still held, after renewing its lease: one round trip to the store.

        Raises:
            LeaseLost: it is not; another run may have it.
            CachifyStoreError: the store could not be reached.

        Example:
            >>> from cachify_tasks import current_slot, init_cachify, pool
            >>> cachify = init_cachify()
            >>> with pool("reports", max_size=2):
            ...     current_slot().check()
        """
        drive(self._checking(), self.store)

    async def acheck(self) -> None:
        """`check` for code in an event loop."""
        await adrive(self._checking(), self.store)

    def _checking(self) -> Flow[None]:
        if not self._lost:
            reply = yield self.renew_command()
            assert isinstance(reply, Reply)
            self._lost = reply.status == "lost"
        if self._lost:
            raise LeaseLost(
                f"the lease of {self.holder!r} on pool {self.key!r} (token {self.token}) was lost; stop, or give the "
                "token to what you write to"
            )

    @property
    def lost(self) -> bool:
        """Does this process know that the lease was lost? Makes no request; `check` does."""
        return self._lost

    def mark_lost(self) -> None:
        self._lost = True

    @property
    def label(self) -> str:
        """Describes the holder for whoever inspects the pool."""
        return self.request.label

    @property
    def inherited(self) -> bool:
        """Was it acquired by the process that this one was forked from?"""
        return self.pid != os.getpid()

    @property
    def request_id(self) -> str:
        """Names the arrival that was granted the slot."""
        return self.request.request_id

    def renew_command(self) -> Renew:
        return Renew(pool=self.key, holder=self.holder, token=self.token, lease_ms=self.lease_ms)

    def release_command(
        self, *, requeue: bool = False, can_start_heirs: bool = False, reserve_for_me: bool = False, died: bool = False
    ) -> Release:
        return Release(
            pool=self.key, holder=self.holder, token=self.token, request_id=self.request.request_id,
            start_ms=self.request.start_ms, tomb_ms=self.tomb_ms,
            requeue=requeue, can_start_heirs=can_start_heirs, reserve_for_me=reserve_for_me, died=died,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<Slot {self.key!r} holder={self.holder!r} token={self.token}{' lost' * self._lost}>"


current: ContextVar[Slot | None] = ContextVar("cachify_slot", default=None)


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
    slot = current.get()
    if slot is None:
        raise CachifyError("there is no current slot: this code does not run inside a pool")
    return slot
