"""Functions that wait: in one queue with tasks, notified on a channel when a slot is reserved for them."""

import pytest

from cachify_tasks._core.replies import Reply
from tests.support.stores import CHANNELS, LEASE, POOL, START


@pytest.fixture(autouse=True)
def listening(store):
    store.listen(*CHANNELS)


def test_a_waiter_is_notified_when_a_slot_is_free_and_takes_it(store):
    token = store.plain("a").token
    assert store.wait("w", request_id="r").status == "parked"

    reply = store.release("a", token, can_start_heirs=False)

    calls = store.heard()
    assert [call[:2] for call in calls] == [("here", "w")]
    given = calls[0][2]
    assert (reply.heirs, reply.held, store.reserved()) == ((), 1, ["w"])
    assert store.wait("w", request_id="r") == Reply("granted", given, held=1, limit=1)
    assert store.wait("w", request_id="r") == Reply("granted", given, held=1, limit=1)
    assert store.running() == ["w"]


def test_a_waiter_is_notified_where_it_listens_whoever_frees_the_slot(store):
    token = store.acquire("a", limit=2).token
    store.plain("b", limit=2)
    store.wait("v", limit=2, channel="here")
    store.wait("w", limit=2, channel="there")

    assert store.release("a", token, can_start_heirs=True).heirs == ()
    store.later(LEASE)
    store.later(0.000001)
    store.sweep()

    assert [call[:2] for call in store.heard()] == [("here", "v"), ("there", "w")]


def test_a_waiter_that_runs_has_no_ticket_and_does_not_come_back(store):
    token = store.plain("a").token
    store.wait("w", request_id="r")
    store.release("a", token, can_start_heirs=False)
    store.wait("w", request_id="r")
    assert store.tickets() == {}

    store.later(LEASE + 1)

    assert store.sweep() == Reply("swept", 0, held=0, limit=1)
    assert store.inspect().waiting == 0


def test_a_waiter_whose_run_is_taken_back_does_not_come_back(store):
    token = store.plain("a").token
    store.wait("w", request_id="r")
    store.release("a", token, can_start_heirs=False)
    store.wait("w", request_id="r")

    assert store.release("w", 0, request_id="r", requeue=True).status == "released"
    assert (store.size(), store.inspect().waiting) == (0, 0)


def test_a_waiter_behind_a_task_waits_until_the_task_has_been_served(store):
    token = store.acquire("a").token
    store.acquire("task")
    store.wait("w")

    store.release("a", token, can_start_heirs=False)
    assert (store.heard(), store.size(), store.due()) == ([], 0, [POOL])
    assert [heir.holder for heir in store.sweep().heirs] == ["task"]
    assert store.heard() == []
    store.release("task", store.acquire("task").token, can_start_heirs=False)

    assert [call[1] for call in store.heard()] == ["w"]


def test_a_caller_that_cannot_start_a_task_serves_the_waiters_before_it(store):
    store.acquire("a")
    store.wait("v")
    store.wait("w")
    store.acquire("task")
    store.wait("x")

    reply = store.configure(5)

    assert (reply.heirs, reply.held) == ((), 3)
    assert [call[1] for call in store.heard()] == ["v", "w"]
    assert store.due() == [POOL]
    store.configure(None)


def test_a_caller_that_can_start_tasks_serves_tasks_and_waiters_in_their_order(store):
    store.acquire("a")
    store.wait("v")
    store.acquire("task", priority=1)
    store.wait("w")
    store.acquire("last")

    reply = store.configure(4, can_start_heirs=True)

    assert [heir.holder for heir in reply.heirs] == ["task"]
    calls = store.heard()
    assert [call[1] for call in calls] == ["v", "w"]
    assert reply.heirs[0].token < calls[0][2] < calls[1][2]
    store.configure(None)


def test_an_override_that_ends_notifies_waiters(store):
    store.configure(0)
    store.wait("w")

    assert store.configure(None).held == 1
    assert [call[1] for call in store.heard()] == ["w"]


def test_a_waiter_that_does_not_come_is_forgotten_and_the_next_one_is_notified(store):
    token = store.plain("a").token
    store.wait("dead")
    store.wait("w")
    store.release("a", token, can_start_heirs=False)
    store.later(START + 1)

    reply = store.sweep()

    assert reply.heirs == ()
    assert [call[1] for call in store.heard()] == ["dead", "w"]
    assert store.tickets().keys() == {"w"}
    assert store.reserved() == ["w"]


def test_a_waiter_that_asks_again_serves_the_waiter_before_it(store):
    store.plain("dead")
    store.wait("v", request_id="v")
    store.wait("w", request_id="w")
    store.later(LEASE + 1)

    assert store.wait("w", request_id="w").status == "parked"
    assert [call[1] for call in store.heard()] == ["v"]


def test_a_waiter_that_finds_its_slot_by_asking_is_not_notified(store):
    store.plain("dead")
    store.wait("w", request_id="r")
    store.later(LEASE + 1)

    assert store.wait("w", request_id="r").status == "granted"
    assert store.heard() == []


def test_a_waiter_that_leaves_the_queue_is_not_notified(store):
    token = store.plain("a").token
    store.wait("v")
    store.wait("w")
    store.withdraw("v", can_start_heirs=False)
    assert store.tickets().keys() == {"w"}

    store.release("a", token, can_start_heirs=False)

    assert [call[1] for call in store.heard()] == ["w"]


def test_a_waiter_that_leaves_gives_its_reserved_slot_to_the_next(store):
    token = store.plain("a").token
    store.wait("v")
    store.wait("w")
    store.release("a", token, can_start_heirs=False)

    assert store.withdraw("v", can_start_heirs=False) == Reply("withdrawn", 0, held=1, limit=1)
    assert [call[1] for call in store.heard()] == ["v", "w"]
    assert store.reserved() == ["w"]


def test_a_release_that_is_sent_again_notifies_nobody_again(store):
    token = store.plain("a").token
    store.wait("w")
    first = store.release("a", token, can_start_heirs=False)

    assert store.release("a", token, can_start_heirs=False) == first
    assert len(store.heard()) == 1


def test_waiters_count_in_a_full_queue(store):
    store.plain("a")
    store.wait("v")

    assert store.acquire("task", max_parked=1).status == "full"
    assert store.wait("w").status == "parked"


def test_a_channel_on_which_nobody_listens_harms_nobody(store):
    token = store.plain("a").token
    store.wait("w", channel="deserted")

    assert store.release("a", token, can_start_heirs=False).held == 1
    assert store.wait("w").status == "granted"


def test_a_pool_is_known_when_its_last_waiters_run(store):
    store.configure(0)
    store.wait("v", request_id="v", limit=2)
    store.wait("w", request_id="w", limit=2)
    store.configure(None)
    store.wait("v", request_id="v", limit=2)
    store.wait("w", request_id="w", limit=2)

    assert (store.running(), store.tickets()) == (["v", "w"], {})
    assert store.pools() == [POOL]


def test_a_waiter_has_a_channel_and_no_envelope_and_its_ticket_says_what_it_is(store):
    store.plain("a")
    store.wait("w", channel="there")

    assert (store.channels(), store.envelopes()) == ({"w": "there"}, {})
    assert store.tickets()["w"].kind == "waiter"
    store.withdraw("w")
    assert (store.channels(), store.tickets()) == ({}, {})


def test_a_message_that_looks_like_a_waiters_is_a_message(store):
    token = store.acquire("a").token
    store.acquire("b", envelope=b"~here")

    (heir,) = store.release("a", token).heirs

    assert (heir.kind, heir.envelope) == ("task/test", b"~here")
    assert store.heard() == []


def test_a_waiter_that_asks_after_it_has_left_gets_nothing(store):
    store.plain("a")
    store.wait("w", request_id="r")
    store.withdraw("w", can_start_heirs=False)

    assert store.wait("w", request_id="r").status == "dropped"
    assert store.inspect().waiting == 0


def test_a_waiter_does_not_take_the_slot_of_another_run(store):
    store.plain("a", request_id="one")

    assert store.wait("a", request_id="another").status == "dropped"
    assert store.tickets() == {}
