"""The queue of tickets: its order, and what comes with an heir."""

import pytest

from cachify_tasks._core.replies import Heir
from tests.support.stores import LEASE, START

DAY = 86400


def served(store, *, first, token):
    """Let the holder of the only slot end, then each of its heirs; who they were, in order."""
    order, holder = [], first
    while heirs := store.release(holder, token).heirs:
        holder = heirs[0].holder
        token = store.acquire(holder).token
        order.append(holder)
    return order


def test_a_full_queue_refuses_another_task(store):
    store.acquire("a")
    store.acquire("b", max_parked=1)

    reply = store.acquire("c", max_parked=1)

    assert (reply.status, reply.held) == ("full", 1)
    assert store.envelopes().keys() == store.ranks().keys() == {"b"}
    assert store.find("c") is None


def test_a_task_that_is_in_a_full_queue_stays_in_it(store):
    store.acquire("a")
    store.acquire("b", max_parked=1)

    assert store.acquire("b", max_parked=1).status == "parked"
    assert store.inspect().waiting == 1


def test_a_full_queue_counts_waiting_tasks_and_not_running_ones(store):
    token = store.acquire("a", max_parked=1).token
    store.acquire("b", max_parked=1)
    store.release("a", token)

    assert store.reserved() == ["b"]
    assert store.acquire("c", max_parked=1).status == "parked"
    assert store.acquire("d", max_parked=1).status == "full"


def test_a_full_queue_refuses_no_task_that_finds_a_free_slot(store):
    store.acquire("a", limit=2, max_parked=1)

    assert store.acquire("b", limit=2, max_parked=1).status == "granted"


def test_a_higher_priority_goes_first_and_within_one_goes_the_order_of_arrival(store):
    token = store.acquire("a").token
    arrivals = {"low z": 0, "high z": 255, "low a": 0, "one": 1, "high a": 255, "two": 2, "low m": 0}
    for name, priority in arrivals.items():
        store.acquire(name, priority=priority)

    assert served(store, first="a", token=token) == ["high z", "high a", "two", "one", "low z", "low a", "low m"]


@pytest.mark.parametrize(("days", "heir"), [(12, "new"), (13, "old")])
def test_a_priority_is_worth_a_head_start_of_more_than_twelve_days(store, days, heir):
    store.acquire("a")
    store.configure(0)
    store.acquire("old")
    store.later(days * DAY)
    store.acquire("new", priority=1)

    assert [heir.holder for heir in store.configure(None, can_start_heirs=True).heirs] == [heir]


@pytest.mark.parametrize("priority", [0, 1, 255])
def test_a_ticket_that_has_come_back_has_its_old_rank_and_a_mark(store, priority):
    token = store.acquire("a").token
    store.acquire("b", priority=priority)
    store.acquire("c", priority=priority)
    rank = store.ranks()["b"]
    store.release("a", token)
    token = store.acquire("b").token
    store.configure(0)

    store.release("b", token, requeue=True)

    assert (store.ranks()["b"], store.ranks()["c"]) == (rank, rank + 1)
    assert (store.tickets()["b"].returned, store.tickets()["c"].returned) == (2, 0)
    store.configure(None)


def test_a_ticket_that_goes_to_the_end_goes_to_that_of_its_priority(store):
    token = store.acquire("a").token
    store.acquire("low")
    store.acquire("poison", priority=3)
    store.acquire("other", priority=3)
    store.release("a", token)
    offered = []
    for patience in (1, 2):
        store.later(patience * START + 1)
        offered += [heir.holder for heir in store.sweep().heirs]

    assert offered == ["poison", "other"]
    assert served(store, first="other", token=store.acquire("other").token) == ["poison", "low"]


def test_a_ticket_of_a_run_that_was_never_parked_returns_with_its_priority(store):
    store.acquire("a", priority=3)
    store.acquire("a", priority=3, request_id="standby")
    store.acquire("b", priority=3)
    store.later(LEASE + 1)

    assert [heir.holder for heir in store.sweep().heirs] == ["a"]


def test_a_higher_priority_takes_the_slot_that_waits_for_a_reaper(store):
    token = store.acquire("a").token
    store.acquire("b", priority=1)
    store.release("a", token, can_start_heirs=False)

    assert store.acquire("same", priority=1, can_start_heirs=False).status == "parked"
    assert store.acquire("higher", priority=2, can_start_heirs=False).status == "granted"
    assert store.running() == ["higher"]


def test_an_heir_comes_with_its_message_and_how_long_it_has_waited(store):
    token = store.acquire("a").token
    store.acquire("b", envelope=b"\x00\xff|~\r\n' \xc3")
    store.later(2.5)

    (heir,) = store.release("a", token).heirs

    assert heir == Heir("b", heir.token, b"\x00\xff|~\r\n' \xc3", 2500, "task/test")


def test_an_heir_of_a_priority_has_waited_no_longer_than_others(store):
    store.acquire("a")
    store.acquire("b", priority=1)
    store.acquire("c", priority=255)
    store.later(2.5)

    assert {heir.waited_ms for heir in store.configure(3, can_start_heirs=True).heirs} == {2500}
    store.configure(None)


def test_heirs_of_one_script_have_each_its_own_message(store):
    store.acquire("a")
    for name in "bcd":
        store.acquire(name)
        store.later(1)
    store.configure(3)

    heirs = store.sweep().heirs

    assert [(h.holder, h.envelope, h.waited_ms) for h in heirs] == [
        ("b", b"message of b", 3000), ("c", b"message of c", 2000),
    ]  # fmt: skip
    store.configure(None)


def test_a_release_that_is_sent_again_later_names_its_heirs_with_the_same_message_and_wait(store):
    token = store.acquire("a").token
    store.acquire("b", envelope=b"\xff")
    store.later(2)
    first = store.release("a", token)
    store.later(3)

    assert store.release("a", token) == first
    assert (first.heirs[0].envelope, first.heirs[0].waited_ms) == (b"\xff", 2000)


def test_an_heir_that_is_offered_again_has_waited_since_it_came(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.later(1)
    store.release("a", token)
    store.later(START + 1)

    assert store.sweep().heirs[0].waited_ms == 12_000


def test_an_heir_that_went_to_the_end_of_the_queue_has_waited_since_it_came(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.acquire("c")
    store.release("a", token)
    store.later(START + 1)
    store.sweep()  # b is offered again, in vain
    store.later(2 * START + 1)
    assert [heir.holder for heir in store.sweep().heirs] == ["c"]

    (heir,) = store.release("c", store.acquire("c").token).heirs

    assert (heir.holder, heir.waited_ms) == ("b", round((3 * START + 2) * 1000))


def test_priority_changes_the_rank_and_not_the_time_of_arrival(store):
    store.acquire("a")
    store.acquire("low")
    store.later(1)
    store.acquire("high", priority=2)

    tickets = store.tickets()
    assert tickets["high"].rank < tickets["low"].rank
    assert tickets["high"].arrived == tickets["low"].arrived + 1_000_000


def test_a_raised_limit_names_heirs_to_a_caller_that_can_start_them(store):
    for name in "abcd":
        store.acquire(name)

    reply = store.configure(3, can_start_heirs=True)

    assert [(heir.holder, heir.envelope) for heir in reply.heirs] == [("b", b"message of b"), ("c", b"message of c")]
    assert (reply.held, reply.limit) == (3, 3)
    assert store.reserved() == ["b", "c"]
    store.configure(None)


def test_an_override_that_ends_names_heirs_too(store):
    token = store.acquire("a").token
    store.configure(0)
    store.acquire("b")
    store.release("a", token)

    assert [heir.holder for heir in store.configure(None, can_start_heirs=True).heirs] == ["b"]


def test_a_ticket_that_nobody_starts_in_time_is_reserved_for_longer_each_time(store):
    store.release("a", store.acquire("a").token)
    store.acquire("b")
    store.acquire("t:0")
    (heir,) = store.release("b", store.inspect().holders[0].token).heirs

    lives = []
    for _ in range(5):
        lives.append(round(store.inspect().holders[0].expires_in))
        store.later(lives[-1] + 0.001)
        (heir,) = store.sweep().heirs

    assert lives == [start * lives[0] for start in (1, 2, 4, 8, 8)]
    store.release("t:0", store.acquire("t:0").token)
    assert heir.holder == "t:0"
    assert store.find("t") is None


def test_a_slot_that_is_reserved_for_a_starter_is_started_by_nobody_else(store):
    token = store.acquire("a").token
    store.acquire("b")
    (heir,) = store.release("a", token, request_id="r", reserve_for_me=True).heirs

    assert store.start_reserved("b").status == "dropped"
    assert store.start_reserved("b", starter="x").status == "dropped"
    assert store.acquire("b", first_delivery=False).status == "standby"
    assert store.reserved() == ["b"]
    assert store.inspect().holders[0].label == ""

    reply = store.start_reserved("b", starter="r", label="task")
    assert (reply.status, reply.token) == ("granted", heir.token)
    assert store.inspect().holders[0].label == "task"


def test_a_starter_counts_until_its_reservation_ends(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.release("a", token, request_id="r", reserve_for_me=True)
    store.later(START + 1)
    (heir,) = store.sweep().heirs

    reply = store.start_reserved("b")

    assert (reply.status, reply.token) == ("granted", heir.token)


def test_a_waiters_slot_is_reserved_for_no_starter(store):
    token = store.acquire("a").token
    store.wait("b", request_id="b")
    store.release("a", token, request_id="r", reserve_for_me=True)

    assert store.wait("b", request_id="b").status == "granted"


def test_a_waiter_does_not_overtake_a_task_that_nobody_here_can_start(store):
    token = store.acquire("a").token
    store.acquire("task")
    store.release("a", token, can_start_heirs=False)

    assert store.wait("w").status == "parked"
    assert store.size() == 0
