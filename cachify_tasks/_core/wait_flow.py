"""The flow of a call that waits for a slot: in the pool's queue, among parked tasks and other waiters."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from ..errors import CachifyStoreError
from .commands import Acquire, Release, SlotRequest, WaitInQueue, Withdraw
from .flows import Abandoned, Await, Flow, Wakeup
from .replies import Reply

S = TypeVar("S")
SUBSCRIBED_S: Final = 1.0  # how long to wait for the subscription before asking: pub/sub may not be permitted
UNHEARD_S: Final = 1.0  # between two questions, while notifications do not arrive
TOMB_MS: Final = 5_000  # for so long the store recognises a request that arrives after the waiter has gone


class Waiters(Protocol):
    """What this flow needs of its surroundings: the functions of this process that wait for a slot."""

    @property
    def listening(self) -> bool:
        """Would a notification arrive now?"""

    def wakeup(self, holder: str) -> Wakeup:
        """A wakeup that is notified when a slot has been reserved for this holder; the subscription starts now."""

    def later(self, command: Release) -> None:
        """Send this when the store can be reached: the flow can do no more steps."""


def wait_in_queue(
    waiters: Waiters,
    request: Acquire,
    ask: Callable[[SlotRequest], Flow[S | Reply]],
    until: float,
    on_full: Callable[[Reply], float],
) -> Flow[S | Reply]:
    """Ask for a slot, and wait for one in the queue; after `until` return the last `Reply`.

    The store reserves a free slot for the oldest in the queue and notifies it, and that one asks again, as the same
    arrival. It also asks without a notification: one can get lost, and when a lease ends there may be nobody but
    waiters to notice. So it asks within a third of a lease, and before a slot that it does not know of is taken from
    it; each second while notifications do not arrive (pub/sub is cut off, or not permitted).

    If the waiting ends in any other way (a signal, a cancellation, an error), nobody knows whether this arrival has a
    ticket, a reserved slot or a slot: the release by its request id frees all of them.

    Args:
        ask: asks once, and tries again where the store is out of reach and the settings say so.
        until: by `time.monotonic`; infinity: wait as long as it takes.
        on_full: called with each answer that the pool is full; returns the seconds after which to ask again, at the
            latest. What it raises ends the waiting.
    """
    interval = max(1.0, min(request.lease_ms / 3, request.start_ms) / 1000)
    release = Release(
        pool=request.pool, holder=request.holder, token=0, request_id=request.request_id,
        start_ms=request.start_ms, tomb_ms=TOMB_MS,
    )  # fmt: skip
    wakeup = None
    try:
        if not waiters.listening:  # most calls find a free slot: they need no subscription
            found = yield from ask(request)
            if not isinstance(found, Reply):
                return found
            on_full(found)
        wakeup = waiters.wakeup(request.holder)
        if not wakeup.listening:
            yield Await(wakeup, min(SUBSCRIBED_S, max(0.0, until - time.monotonic())))
        wait = WaitInQueue(
            pool=request.pool, holder=request.holder, request_id=request.request_id, limit=request.limit,
            lease_ms=request.lease_ms, start_ms=request.start_ms, slot_exp_ms=request.slot_exp_ms,
            label=request.label, channel=wakeup.channel,
        )  # fmt: skip
        while True:
            found = yield from ask(wait)
            if not isinstance(found, Reply):
                return found
            latest = on_full(found)
            left = until - time.monotonic()
            if left <= 0:
                yield Withdraw(pool=request.pool, holder=request.holder, start_ms=request.start_ms, tomb_ms=TOMB_MS)
                return found
            yield Await(wakeup, min(left, latest, interval if wakeup.listening else UNHEARD_S))
    except (CachifyStoreError, Abandoned, GeneratorExit):
        if wakeup is not None:
            waiters.later(release)
        raise
    except BaseException:
        try:
            yield release
        except CachifyStoreError:
            waiters.later(release)
        raise


FOREVER: Final = math.inf
