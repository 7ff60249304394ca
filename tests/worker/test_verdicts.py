"""What a worker does with a delivery, as one table: the store's answer and the task's strategy give the verdict."""

import itertools
from typing import Any, get_args

import pytest

from cachify_tasks import CachedFallback, Drop, Park, Raise, Reschedule
from cachify_tasks._core.commands import Acquire, StartReserved, Ticket
from cachify_tasks._core.decisions import FullPool, Invoke, RaiseFull, Recall, Skip
from cachify_tasks._core.replies import Reply, Status
from cachify_tasks._worker.verdicts import (
    COPY_DELAY,
    AskAgain,
    Discard,
    Done,
    Fail,
    Leave,
    Revoke,
    SendLater,
    Start,
    StartWith,
    StartWithoutSlot,
    Verdict,
    verdict,
)
from cachify_tasks.settings import STORE_ERROR_CHOICES, UNSET
from tests.worker.fakes import DOWN, limited

COMMON: dict[str, Any] = {
    "pool": "p", "holder": "t:0", "request_id": "r", "limit": 1, "lease_ms": 30_000, "start_ms": 10_000,
}  # fmt: skip
NEW = Acquire(**COMMON, ticket=Ticket(kind="task/fake", envelope=b"message"))
KEEPS_ITS_MESSAGE = Acquire(**COMMON)  # its message cannot be kept by the store
HEIR = StartReserved(**COMMON)
COMMANDS = (NEW, KEEPS_ITS_MESSAGE, HEIR)

GRANTED = Reply("granted", token=9, held=1, limit=1)
FULL = Reply("full", held=1, limit=1)
THE_POOL = FullPool("p", 1, 1)


class Rude:
    """A strategy that raises."""

    def decide(self, full: FullPool) -> Any:
        raise ZeroDivisionError

    def keeps(self) -> None:
        return None


def callback() -> int:
    return 3


STEADY = Reschedule(delay=2, factor=3, jitter=False, max_attempts=2, then=Drop())
STRATEGIES: dict[str, Any] = {
    "raise": Raise(), "drop": Drop(), "drop with a result": Drop(result=7), "reschedule": STEADY,
    "cached fallback": CachedFallback(ttl=60, default=-1), "callback": callback, "rude": Rude(), "none": None,
    "park": Park(), "park, then drop": Park(max_parked=1, then=Drop()),
    "park for a second, then drop": Park(max_age=1, then=Drop()), "not given": UNSET,
}  # fmt: skip
LIMITS = {name: limited(strategy) for name, strategy in STRATEGIES.items()}


def put_off(seconds: float, deferrals: int, token: int = 0) -> SendLater:
    """What `Reschedule` comes to; the pool was asked about with one deferral less."""
    return SendLater(seconds, deferrals, True, FullPool("p", 1, 1, deferrals - 1), token)


TABLE: list[tuple[Any, Any, str, dict[str, Any], Verdict]] = [
    # command, reply, the task's strategy, what else is known, verdict
    (NEW, GRANTED, "raise", {}, Start(9)),
    (HEIR, GRANTED, "park", {}, Start(9)),
    (HEIR, GRANTED, "park", {"waited_ms": 10**9}, Start(9)),
    (HEIR, GRANTED, "raise", {"waited_ms": 10**9}, Start(9)),
    (HEIR, GRANTED, "no limit any more", {"waited_ms": 10**9}, Start(9)),
    # Waited too long: its slot is held while the other strategy acts.
    (HEIR, GRANTED, "park for a second, then drop", {"waited_ms": 1000}, Start(9)),
    (HEIR, GRANTED, "park for a second, then drop", {"waited_ms": 1001}, Revoke(THE_POOL, 9)),
    (HEIR, GRANTED, "not given", {"waited_ms": 1001, "default": Park(max_age=1, then=Drop())}, Revoke(THE_POOL, 9)),
    (HEIR, GRANTED, "not given", {"waited_ms": 1001, "default": Park(max_age=1, then=Raise())},
     StartWith(THE_POOL, RaiseFull(), 9)),
    (HEIR, GRANTED, "not given", {"waited_ms": 1001, "default": Park(max_age=1, then=STEADY)}, put_off(2, 1, 9)),
    (HEIR, GRANTED, "not given", {"waited_ms": 1001, "default": Park(max_age=1, then=STEADY), "deferrals": 1},
     put_off(6, 2, 9)),
    (HEIR, GRANTED, "not given", {"waited_ms": 1001, "default": Park(max_age=1, then=Rude())},
     StartWith(THE_POOL, None, 9)),
    # Full: the strategy decides.
    (NEW, FULL, "raise", {}, StartWith(THE_POOL, RaiseFull())),
    (NEW, FULL, "drop", {}, Revoke(THE_POOL)),
    (NEW, FULL, "drop with a result", {}, StartWith(THE_POOL, Skip(7))),
    (NEW, FULL, "reschedule", {}, put_off(2, 1)),
    (NEW, FULL, "reschedule", {"deferrals": 1}, put_off(6, 2)),
    (NEW, FULL, "reschedule", {"deferrals": 2}, Revoke(FullPool("p", 1, 1, 2))),
    (NEW, FULL, "cached fallback", {}, StartWith(THE_POOL, Recall(60_000, -1))),
    (NEW, FULL, "callback", {}, StartWith(THE_POOL, Invoke(callback))),
    (NEW, FULL, "rude", {}, StartWith(THE_POOL, None)),
    (NEW, FULL, "none", {}, StartWith(THE_POOL, Skip(None))),
    (NEW, FULL, "park, then drop", {}, Revoke(THE_POOL)),
    (NEW, FULL, "not given", {"default": Drop()}, Revoke(THE_POOL)),
    (NEW, FULL, "not given", {"default": None}, StartWith(THE_POOL, Skip(None))),
    (NEW, FULL, "raise", {"default": Drop()}, StartWith(THE_POOL, RaiseFull())),
    (KEEPS_ITS_MESSAGE, FULL, "drop", {}, Revoke(THE_POOL)),
    # The store has the message.
    (NEW, Reply("parked", held=1, limit=1), "park", {}, Done("parked", 1, 1)),
    (HEIR, Reply("parked", held=1, limit=1), "park", {}, Leave()),
    # Another delivery of the same attempt runs.
    (NEW, Reply("standby"), "raise", {}, Done("standby")),
    (KEEPS_ITS_MESSAGE, Reply("standby"), "raise", {"deferrals": 4}, SendLater(COPY_DELAY, 4, False)),
    # The attempt has ended.
    (NEW, Reply("dropped"), "raise", {}, Discard()),
    (KEEPS_ITS_MESSAGE, Reply("dropped"), "raise", {}, Discard()),
    (HEIR, Reply("dropped"), "raise", {}, Leave()),
    # No answer.
    (NEW, DOWN, "raise", {}, AskAgain()),
    (NEW, DOWN, "raise", {"on_store_error": "retry"}, AskAgain()),
    (NEW, DOWN, "raise", {"on_store_error": "raise"}, Fail("store", "the store is out of reach")),
    (NEW, DOWN, "raise", {"on_store_error": "run"}, StartWithoutSlot()),
    (HEIR, DOWN, "raise", {}, AskAgain()),
    (HEIR, DOWN, "raise", {"on_store_error": "retry"}, AskAgain()),
    (HEIR, DOWN, "raise", {"on_store_error": "raise"}, AskAgain()),
    (HEIR, DOWN, "raise", {"on_store_error": "run"}, AskAgain()),
]  # fmt: skip


@pytest.mark.parametrize(("command", "reply", "strategy", "known", "expected"), TABLE)
def test_the_stores_answer_and_the_strategy_give_the_verdict(command, reply, strategy, known, expected):
    others = {name: value for name, value in known.items() if name != "default"}
    limit = limited(STRATEGIES[strategy], default=known.get("default", UNSET)) if strategy in STRATEGIES else None

    assert verdict(command, reply, limit=limit, **others) == expected


ANSWERS_TO_A_DELIVERY = {"granted", "parked", "standby", "dropped", "full"}
NOT_OFFERED = {(HEIR, "full"), (HEIR, "standby")}  # a reserved slot is taken, waited for or gone


def test_the_table_has_a_row_for_each_answer_to_each_command():
    rows = {(command, reply.status) for command, reply, *_ in TABLE if isinstance(reply, Reply)}
    answers = set(itertools.product((NEW, HEIR), ANSWERS_TO_A_DELIVERY)) - NOT_OFFERED

    assert answers <= rows


@pytest.mark.parametrize("status", sorted(set(get_args(Status)) - ANSWERS_TO_A_DELIVERY))
@pytest.mark.parametrize("command", [NEW, HEIR])
def test_an_answer_to_another_command_is_an_error_that_names_both(command, status):
    with pytest.raises(AssertionError, match=f"{status}.*{type(command).__name__}"):
        verdict(command, Reply(status), limit=LIMITS["park"])


SETTINGS: list[tuple[Any, ...]] = list(
    itertools.product(
        COMMANDS, sorted(ANSWERS_TO_A_DELIVERY), STRATEGIES, (None, Drop(), Park(max_age=1)), (0, 3), (0, 5000)
    )
)


def test_every_verdict_keeps_to_who_owns_the_message_and_who_holds_a_slot():
    for command, status, strategy, default, deferrals, waited_ms in SETTINGS:
        token = 9 if status == "granted" else 0
        if (command, status) in NOT_OFFERED or (waited_ms and command is not HEIR):
            continue

        decided = verdict(
            command, Reply(status, token, 1, 1), limit=limited(STRATEGIES[strategy], default=default),
            deferrals=deferrals, waited_ms=waited_ms,
        )  # fmt: skip

        case = (command, status, strategy, default, deferrals, waited_ms, decided)
        assert isinstance(decided, get_args(Verdict)), case
        if isinstance(decided, Leave):  # nothing is acknowledged: the store owns the message
            assert command is HEIR, case
        if isinstance(decided, Done | Discard):  # the message is acknowledged: it came from the broker
            assert command is not HEIR, case
        assert getattr(decided, "token", 0) == token, case
        if isinstance(decided, SendLater) and decided.visible:
            assert decided.deferrals == deferrals + 1, case


def test_an_outage_ends_or_starts_only_what_the_broker_has_delivered():
    for choice in (UNSET, *STORE_ERROR_CHOICES):
        for limit in LIMITS.values():
            decided = verdict(HEIR, DOWN, limit=limit, on_store_error=choice)
            assert decided == AskAgain()


@pytest.mark.parametrize(("waited_ms", "overdue"), [(0, False), (1000, False), (1001, True)])
def test_a_task_is_overdue_when_it_has_waited_longer_than_max_age(waited_ms, overdue):
    assert limited(Park(max_age=1)).is_overdue(waited_ms) is overdue
    assert limited(default=Park(max_age=1)).is_overdue(waited_ms) is overdue


@pytest.mark.parametrize("strategy", ["raise", "drop", "none", "park", "rude"])
def test_a_task_whose_strategy_names_no_max_age_is_never_overdue(strategy):
    assert not limited(STRATEGIES[strategy], default=Park(max_age=1)).is_overdue(10**12)
