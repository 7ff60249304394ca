"""The lease renewer: one daemon thread in a process renews the leases of all its slots.

It is a thread, because a busy event loop or a task that computes must not cost a slot. It holds slots weakly: a slot
that was lost without being released (an abandoned generator) is renewed no more and ends with its lease. After a fork
the child renews nothing: the slots are its parent's.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from .._fork import after_in_child
from ..errors import CachifyStoreError
from .event_log import EventLog
from .events import Emitter, Event, LeaseWasLost, RenewalFailed
from .slot import Slot

if TYPE_CHECKING:
    from .._store.interface import Store

logger = logging.getLogger("cachify_tasks")

RENEWALS: Final = 3  # in the life of a lease
IDLE: Final = 5.0  # seconds without a slot after which the thread ends


class SlotSource(Protocol):
    """Has slots to renew: a worker, which would otherwise have to add and remove each of its many slots."""

    def slots(self) -> Iterable[Slot]:
        """The slots that it holds now. Called by the renewer's thread."""


class LeaseRenewer:
    """Renews the slots that it is given until they are taken back, and those of its sources.

    The thread is started by the first slot or source. It looks at all slots six times in the life of the shortest
    lease, and ends when there is neither a slot nor a source. Any thread may call these methods. `_lock` guards the
    start and the end of the thread, its pace, and the sources. `_slots` needs no lock: each change of the set is one
    operation, and the thread iterates over a copy.

    Args:
        clock: in seconds; tests pass one that they move.
        emit: takes the events of leases that were lost, or could not be renewed.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, emit: Callable[[Event], None] | None = None
    ) -> None:
        self.clock = clock
        self._emit = emit or Emitter(EventLog()).emit
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Begin without slots, without sources and without a thread."""
        self._slots: set[weakref.ref[Slot]] = set()
        self._sources: weakref.WeakSet[SlotSource] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._shortest_ms = 0
        self._interval = IDLE
        self._stopped = False

    def add(self, slot: Slot) -> None:
        now = self.clock()
        slot.acquired_at = now
        slot.renewed_at = now
        self._slots.add(weakref.ref(slot))
        if self._thread is None or slot.lease_ms < self._shortest_ms:
            self._start(slot.lease_ms)

    def remove(self, slot: Slot) -> None:
        self._slots.discard(weakref.ref(slot))

    def add_source(self, source: SlotSource, lease_ms: int) -> None:
        """Renew what this source holds, for as long as it exists. It sets the times of its slots by `clock`.

        Args:
            lease_ms: the life of its leases, in milliseconds.
        """
        with self._lock:
            self._sources.add(source)
        self._start(lease_ms)

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread; slots still held are renewed no more. The next slot or source starts another thread."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stopped = True
            self._slots.clear()
            self._sources.clear()
            self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def renew_due(self) -> None:
        """Renew every slot whose lease has lost a third of its life."""
        now = self.clock()
        due: dict[Store, list[Slot]] = {}
        for slot in self._held():
            if now - slot.renewed_at >= slot.lease_ms / 1000 / RENEWALS - self._interval / 2:
                due.setdefault(slot.store, []).append(slot)
        for store, slots in due.items():
            self._renew(store, slots, now)

    def renew_all(self, store: Store) -> None:
        """Renew every slot of this store now, due or not."""
        slots = [slot for slot in self._held() if slot.store is store]
        if slots:
            self._renew(store, slots, self.clock())

    def acquired(self) -> list[Slot]:
        """The slots that were added one by one: those of direct calls."""
        found = []
        for ref in self._slots.copy():
            slot = ref()
            if slot is None:
                self._slots.discard(ref)
            else:
                found.append(slot)
        return found

    def _held(self) -> list[Slot]:
        """The slots to renew; those whose leases are known to be lost are not."""
        found = self.acquired()
        with self._lock:
            sources = list(self._sources)
        for source in sources:
            found += [slot for slot in source.slots() if not slot.lost]
        return found

    def _renew(self, store: Store, slots: Sequence[Slot], now: float) -> None:
        try:
            replies = store.execute_many([slot.renew_command() for slot in slots])
        except CachifyStoreError as error:
            self._emit(RenewalFailed(count=len(slots), error=error))
            return
        errors = []
        for slot, reply in zip(slots, replies, strict=True):
            if isinstance(reply, CachifyStoreError):
                errors.append(reply)
            elif reply.status == "lost":
                if slot in self._held():  # not one that has just been released
                    slot.mark_lost()
                    self.remove(slot)
                    self._emit(LeaseWasLost(pool=slot.key, holder=slot.holder, token=slot.token, when="while it ran"))
            else:
                slot.renewed_at = now
        if errors:
            self._emit(RenewalFailed(count=len(errors), error=errors[0]))

    def _start(self, lease_ms: int) -> None:
        with self._lock:
            if self._thread is None:
                self._set_pace(lease_ms)
                self._stopped = False
                self._wake = threading.Event()
                thread = threading.Thread(target=self._run, name="cachify-lease-renewer", daemon=True)
                thread.start()  # where no thread can be started, the next slot tries again
                self._thread = thread
            elif lease_ms < self._shortest_ms:
                self._set_pace(lease_ms)
                self._wake.set()

    def _set_pace(self, lease_ms: int) -> None:
        self._shortest_ms = lease_ms
        self._interval = lease_ms / 1000 / RENEWALS / 2

    def _run(self) -> None:
        wake = self._wake
        empty_since = self.clock()
        while True:
            wake.wait(self._interval)
            with self._lock:
                if self._stopped or self._thread is not threading.current_thread():
                    return
                wake.clear()
            try:
                self.renew_due()
            except Exception:  # a renewer that stops would lose every lease of the process
                logger.exception("renewing leases failed; trying again")
            now = self.clock()
            with self._lock:
                if self._slots or len(self._sources):
                    empty_since = now
                elif now - empty_since > IDLE and self._thread is threading.current_thread():
                    self._thread = None
                    if not self._slots:  # `add` puts the slot first and looks at the thread then
                        return
                    self._thread = threading.current_thread()


lease_renewer: Final = LeaseRenewer()
after_in_child(lease_renewer.reset_after_fork)
