"""The flow of a call that waits for a slot: in the pool's queue, among parked tasks and other waiters."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from ..errors import CachifyStoreError
from .commands import Acquire, Release, Reply, SlotRequest, WaitInQueue, Withdraw
from .flows import Abandoned, Await, Flow, Wakeup

SUBSCRIBED: Final = 1.0  # seconds after which one asks, too, who may not hear the call
TOMB_MS: Final = 5_000  # for so long a question that comes after its end is recognised


class Host(Protocol):
    """What this flow needs of its surroundings."""

    @property
    def listening(self) -> bool:
        """Would a call be heard at once?"""

    def wakeup(self, holder: str) -> Wakeup:
        """To be rung when that holder is called; the store's calls are listened to from then on."""

    def later(self, command: Release) -> None:
        """Do this when it can be done: the flow can do no more steps, or the store is out of reach."""


def queue_up(host: Host, ask: Acquire, once: Callable[[SlotRequest], Flow[Any]], until: float | None) -> Flow[Any]:
    """Ask by `once`, and wait for a slot where there is none; after `until` the answer is the last `Reply`.

    A slot is reserved for the oldest in the queue, who is called and asks again, as the same arrival. It also asks
    without a call, since that can get lost, and since a lease may end with nobody but waiters left to notice: within a
    third of a lease, and before a slot that it does not know of is taken from it again.

    Whatever else ends the waiting (a signal, a cancellation, an error), nobody knows for certain whether this arrival
    has a ticket, a reserved slot or its own: the release by its nonce frees all of them.
    """
    again = max(1.0, min(ask.lease_ms / 3, ask.start_ms) / 1000)
    end = math.inf if until is None else until
    release = Release(
        pool=ask.pool, holder=ask.holder, token=0, request_id=ask.request_id, start_ms=ask.start_ms, tomb_ms=TOMB_MS
    )
    wakeup = None
    try:
        if not host.listening:  # most find a free slot: for them nobody need listen
            found = yield from once(ask)
            if not isinstance(found, Reply):
                return found
        wakeup = host.wakeup(ask.holder)
        if not wakeup.listening:
            yield Await(wakeup, min(SUBSCRIBED, max(0.0, end - time.monotonic())))
        wait = WaitInQueue(
            pool=ask.pool, holder=ask.holder, request_id=ask.request_id, limit=ask.limit, lease_ms=ask.lease_ms,
            start_ms=ask.start_ms, slot_exp_ms=ask.slot_exp_ms, label=ask.label, channel=wakeup.channel,
        )  # fmt: skip
        while True:
            found = yield from once(wait)
            if not isinstance(found, Reply):
                return found
            left = end - time.monotonic()
            if left <= 0:
                yield Withdraw(pool=ask.pool, holder=ask.holder, start_ms=ask.start_ms, tomb_ms=TOMB_MS)
                return found
            yield Await(wakeup, min(left, again))
    except (CachifyStoreError, Abandoned, GeneratorExit):
        if wakeup is not None:
            host.later(release)
        raise
    except BaseException:
        try:
            yield release
        except CachifyStoreError:
            host.later(release)
        raise
