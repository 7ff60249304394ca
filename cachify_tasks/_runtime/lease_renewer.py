"""The heart: one daemon thread a process that renews the leases of all its slots.

A thread, because a busy event loop or a task that computes must not cost a slot. It holds slots weakly: one that was
lost without being left (an abandoned generator) is renewed no more and ends with its lease. After a fork the child
begins with an empty heart: the slots are its parent's.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from typing import Any, Final

from ..errors import CachifyStoreError
from .slot import Slot

logger = logging.getLogger("cachify_tasks")

BEATS: Final = 3  # renewals in the life of a lease
IDLE: Final = 5.0  # seconds without a slot after which the thread ends


class LeaseRenewer:
    """Renews the slots that it is given until they are taken back."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._slots: set[weakref.ref[Slot]] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._lease_ms = 0  # the shortest; it sets the pace
        self._tick = IDLE
        self._stopped = False

    def add(self, slot: Slot) -> None:
        self._slots.add(weakref.ref(slot))
        if self._thread is None or slot.lease_ms < self._lease_ms:
            self._start(slot.lease_ms)

    def remove(self, slot: Slot) -> None:
        self._slots.discard(weakref.ref(slot))

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread; slots still held are renewed no more, until another one is added."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stopped = True
            self._slots.clear()
            self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _start(self, lease_ms: int) -> None:
        with self._lock:
            if self._thread is None:
                self._pace(lease_ms)
                self._stopped, self._wake = False, threading.Event()
                thread = threading.Thread(target=self._run, name="cachify-heart", daemon=True)
                thread.start()  # where no thread can be started, the next slot tries again
                self._thread = thread
            elif lease_ms < self._lease_ms:
                self._pace(lease_ms)
                self._wake.set()

    def _pace(self, lease_ms: int) -> None:
        self._lease_ms, self._tick = lease_ms, lease_ms / 1000 / BEATS / 2

    def _run(self) -> None:
        wake, empty_since = self._wake, time.monotonic()
        while True:
            wake.wait(self._tick)
            with self._lock:
                if self._stopped or self._thread is not threading.current_thread():
                    return
                wake.clear()
            try:
                self.beat()
            except Exception:  # a heart that stops would lose every lease of the process
                logger.exception("renewing leases failed; trying again")
            now = time.monotonic()
            with self._lock:
                if self._slots:
                    empty_since = now
                elif now - empty_since > IDLE and self._thread is threading.current_thread():
                    self._thread = None
                    if not self._slots:  # `add` puts the slot first and looks at the thread then
                        return
                    self._thread = threading.current_thread()

    def beat(self) -> None:
        """Renew every slot whose lease has lost a third of its life."""
        now, due = time.monotonic(), dict[Any, list[Slot]]()
        for ref in self._slots.copy():
            slot = ref()
            if slot is None:
                self._slots.discard(ref)
            elif now - slot.renewed_at >= slot.lease_ms / 1000 / BEATS - self._tick / 2:
                due.setdefault(slot.store, []).append(slot)
        for store, slots in due.items():
            self._renew(store, slots, now)

    def renew(self, store: Any) -> None:
        """Renew every slot of this store now, due or not."""
        slots = [slot for ref in self._slots.copy() if (slot := ref()) is not None and slot.store is store]
        if slots:
            self._renew(store, slots, time.monotonic())

    def _renew(self, store: Any, slots: list[Slot], now: float) -> None:
        try:
            replies = store.execute_many([slot.renew_command() for slot in slots])
        except CachifyStoreError as error:
            logger.warning("%d leases could not be renewed: %s", len(slots), error)
            return
        for slot, reply in zip(slots, replies, strict=True):
            if isinstance(reply, CachifyStoreError):
                logger.warning("the lease of %r on %r could not be renewed: %s", slot.holder, slot.key, reply)
            elif reply.status == "lost":
                if weakref.ref(slot) in self._slots:  # not one that has just been released
                    slot.mark_lost()
                    self.remove(slot)
                    logger.warning("the lease of %r on pool %r was lost while it ran", slot.holder, slot.key)
            else:
                slot.renewed_at = now


lease_renewer = LeaseRenewer()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lease_renewer._reset)
