"""How often a call that waits for a slot asks without a notification. The flow is moved by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from cachify_tasks._core.commands import Acquire, SlotRequest
from cachify_tasks._core.flows import Await
from cachify_tasks._core.replies import Reply
from cachify_tasks._core.wait_flow import UNHEARD_S, wait_in_queue

REQUEST = Acquire(pool="p", holder="h", request_id="r", limit=1, lease_ms=30_000, start_ms=10_000)


class Heard:
    """The waiters of a process, and the wakeup of one of them: do notifications arrive?"""

    channel = "c"

    def __init__(self, listening: bool) -> None:
        self.listening = listening

    def wakeup(self, holder: str) -> Heard:
        return self

    def later(self, command: object) -> None: ...
    def wait(self, seconds: float) -> None: ...
    async def await_notified(self, seconds: float) -> None: ...


def ask(request: SlotRequest) -> Any:
    return (yield request)


@pytest.mark.parametrize(("listening", "seconds"), [(True, 10.0), (False, UNHEARD_S)])
def test_a_waiter_that_no_notification_reaches_asks_each_second(listening, seconds):
    flow = wait_in_queue(Heard(listening), REQUEST, ask, math.inf, lambda reply: math.inf)
    pauses: list[float] = []
    step = next(flow)
    while len(pauses) < 3:
        if isinstance(step, Await):
            pauses.append(step.seconds)
            step = flow.send(None)
        else:
            step = flow.send(Reply("parked"))
    flow.close()

    assert pauses[-2:] == [seconds] * 2
