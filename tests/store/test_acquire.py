"""What every store answers when a slot is asked for."""

import pytest

from cachify_tasks._core.replies import Reply
from tests.support.stores import LEASE, START


def test_a_free_slot_is_granted(store):
    reply = store.acquire("a", limit=2)

    assert reply == Reply("granted", token=reply.token, held=1, limit=2)
    assert store.running() == ["a"]


def test_a_full_pool_refuses_a_caller_that_cannot_wait(store):
    store.plain("a", limit=1)

    reply = store.plain("b", limit=1)

    assert reply == Reply("full", token=0, held=1, limit=1)
    assert store.running() == ["a"]
    assert store.inspect().waiting == 0


def test_a_full_pool_parks_a_task_and_keeps_its_message(store):
    store.acquire("a")

    reply = store.acquire("b", envelope=b"\x00\xff|any bytes")

    assert reply == Reply("parked", token=0, held=1, limit=1)
    assert store.inspect().waiting == 1
    assert store.envelopes() == {"b": b"\x00\xff|any bytes"}


def test_a_granted_acquire_that_is_sent_again_has_the_same_slot(store):
    first = store.acquire("a", limit=3, request_id="r")

    again = store.acquire("a", limit=3, request_id="r")

    assert again == first
    assert store.size() == 1


def test_a_granted_acquire_is_answered_again_while_others_wait(store):
    first = store.acquire("a", request_id="r")
    store.acquire("b")

    again = store.acquire("a", request_id="r")

    assert again == first


def test_a_parked_acquire_that_is_sent_again_waits_once(store):
    store.acquire("a")
    first = store.acquire("b", request_id="r")

    again = store.acquire("b", request_id="r")

    assert again == first
    assert store.inspect().waiting == 1


def test_a_second_delivery_of_a_waiting_task_waits_once(store):
    store.acquire("a")
    store.acquire("b", request_id="first")

    assert store.acquire("b", request_id="second").status == "parked"
    assert store.inspect().waiting == 1


def test_a_second_delivery_of_a_running_task_is_kept_aside(store):
    first = store.acquire("a", limit=2, request_id="first")

    reply = store.acquire("a", limit=2, request_id="second")

    assert reply == Reply("standby", token=0, held=1, limit=2)
    assert store.envelopes() == {"a": b"message of a"}
    assert store.renew("a", first.token).status == "renewed"


def test_a_third_delivery_does_not_replace_the_message_that_is_kept(store):
    store.acquire("a")
    store.acquire("a", envelope=b"second")

    assert store.acquire("a", envelope=b"third").status == "standby"
    assert store.envelopes() == {"a": b"second"}


def test_a_standby_goes_when_the_run_ends(store):
    first = store.acquire("a")
    store.acquire("a")

    assert store.release("a", first.token) == Reply("released", first.token, held=0, limit=1)
    assert store.envelopes() == {}


def test_a_standby_runs_when_the_run_dies(store):
    first = store.acquire("a")
    store.acquire("a")
    store.later(LEASE + 1)

    reply = store.sweep()

    assert [heir.holder for heir in reply.heirs] == ["a"]
    assert reply.heirs[0].token > first.token
    assert store.envelopes() == {"a": b"message of a"}


def test_a_second_delivery_without_a_message_leaves_none(store):
    store.acquire("a")

    assert store.acquire("a", envelope=b"").status == "standby"
    assert store.envelopes() == {}


@pytest.mark.parametrize("state", ["unknown", "running", "ended"])
def test_a_hint_for_a_task_that_does_not_wait_is_dropped(store, state):
    token = store.acquire("a").token if state != "unknown" else 0
    if state == "ended":
        store.release("a", token)

    reply = store.start_reserved("a")

    assert reply.status == "dropped"
    assert store.running() == ["a"] * (state == "running")
    assert store.envelopes() == {}


def test_a_hint_for_a_waiting_task_leaves_it_waiting(store):
    store.acquire("a")
    store.acquire("b")

    assert store.start_reserved("b").status == "parked"
    assert store.inspect().waiting == 1


def test_a_hint_starts_a_reserved_task(store):
    token = store.acquire("a").token
    store.acquire("b")
    heir = store.release("a", token).heirs[0]

    reply = store.start_reserved("b")

    assert (reply.status, reply.token) == ("granted", heir.token)


def test_the_first_delivery_starts_a_reserved_task_and_others_stand_by(store):
    token = store.acquire("a").token
    store.acquire("b")
    heir = store.release("a", token).heirs[0]

    first = store.acquire("b", request_id="first")
    second = store.acquire("b", request_id="second")

    assert first == Reply("granted", heir.token, held=1, limit=1)
    assert second.status == "standby"
    assert store.running() == ["b"]


def test_a_start_that_is_sent_again_has_the_same_answer(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.release("a", token)
    first = store.acquire("b", request_id="r")

    assert store.acquire("b", request_id="r") == first


def test_a_start_turns_the_short_deadline_into_a_lease(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.release("a", token)
    assert store.inspect().holders[0].expires_in == START

    store.acquire("b", label="the task")

    (view,) = store.inspect().holders
    assert (view.expires_in, view.label, view.reserved) == (LEASE, "the task", False)


def test_nobody_overtakes_the_queue(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.release("a", token, can_start_heirs=False)
    assert store.size() == 0

    assert store.plain("hasty", limit=1).status == "full"
    assert store.acquire("c", can_start_heirs=False).status == "parked"
    assert store.inspect().waiting == 2


def test_a_newcomer_that_can_start_heirs_gets_the_oldest(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.release("a", token, can_start_heirs=False)

    reply = store.acquire("c")

    assert (reply.status, [heir.holder for heir in reply.heirs]) == ("parked", ["b"])
    assert store.reserved() == ["b"]


def test_an_heir_that_asks_itself_starts_and_is_not_named(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.release("a", token, can_start_heirs=False)

    reply = store.acquire("b")

    assert (reply.status, reply.heirs) == ("granted", ())
    assert store.running() == ["b"]


def test_a_late_copy_of_a_task_that_has_ended_is_dropped(store):
    store.release("a", store.acquire("a").token)

    reply = store.acquire("a")

    assert reply == Reply("dropped", token=0, held=0, limit=1)


def test_a_late_copy_of_a_task_that_has_ended_is_dropped_from_a_full_pool_too(store):
    store.release("a", store.acquire("a").token)
    store.acquire("b")

    assert store.acquire("a").status == "dropped"
    assert store.inspect().waiting == 0


def test_a_tombstone_has_a_ttl(store):
    store.release("a", store.acquire("a").token, tomb_ms=40_000)

    store.later(39)
    assert store.acquire("a").status == "dropped"
    store.later(2)
    assert store.acquire("a").status == "granted"


def test_a_first_delivery_is_not_taken_for_a_late_copy(store):
    store.release("a", store.acquire("a").token)

    assert store.acquire("a", first_delivery=True).status == "granted"


def test_a_first_delivery_that_is_sent_again_has_the_same_slot(store):
    store.release("a", store.acquire("a").token)
    first = store.plain("a", request_id="r", first_delivery=True)

    assert store.plain("a", request_id="r", first_delivery=True) == first


def test_tokens_grow_with_every_grant_though_the_clock_stands(store):
    tokens = []
    for name in "abcdef":
        reply = store.acquire(name)
        tokens.append(reply.token)
        store.release(name, reply.token)

    assert tokens == sorted(set(tokens))


def test_tokens_grow_over_hand_overs(store):
    tokens = [store.acquire("a").token]
    for name in "bcd":
        store.acquire(name)
    for name in "abc":
        (heir,) = store.release(name, tokens[-1]).heirs
        tokens.append(heir.token)
        store.acquire(heir.holder)

    assert tokens == sorted(set(tokens))


def test_tokens_grow_though_the_store_has_forgotten_all(store):
    before = store.acquire("a").token
    store.forget()
    store.later(0.001)

    assert store.acquire("a").token > before


def test_another_limit_for_one_pool_is_reported_once_and_the_last_one_counts(store):
    assert store.plain("a", limit=1).previous_limit == 0
    assert store.plain("b", limit=2) == Reply(
        "granted", store.inspect().holders[-1].token, held=2, limit=2, previous_limit=1
    )
    assert store.plain("c", limit=2).previous_limit == 0

    reply = store.plain("d", limit=1)

    assert (reply.status, reply.held, reply.limit, reply.previous_limit) == ("full", 2, 1, 2)


def test_a_limit_of_a_direct_call_does_not_replace_a_workers(store):
    store.acquire("a", limit=1, by_worker=True)

    reply = store.plain("script", limit=4)

    assert (reply.status, reply.limit, reply.previous_limit) == ("full", 1, 1)
    assert store.wait("waits", limit=4).limit == 1
    assert store.acquire("b", limit=2, by_worker=True).limit == 2
    assert store.problems() == []


def test_a_limit_of_a_worker_replaces_a_direct_calls(store):
    store.plain("script", limit=4)

    assert store.acquire("a", limit=1, by_worker=True).limit == 1
    assert store.plain("script again", limit=4).status == "full"


def test_a_worker_that_gives_the_limit_of_a_direct_call_makes_it_its_own(store):
    store.plain("script", limit=2)
    store.acquire("a", limit=2, by_worker=True)

    assert store.plain("another script", limit=4).limit == 2


def test_a_lower_limit_evicts_nobody(store):
    first, second = store.acquire("a", limit=2), store.acquire("b", limit=2)
    store.acquire("c", limit=1)

    assert store.running() == ["a", "b"]
    assert store.release("a", first.token).heirs == ()
    assert [heir.holder for heir in store.release("b", second.token).heirs] == ["c"]


def test_pools_of_other_names_are_apart(store):
    store.acquire("a", pool="tenant-a")

    assert store.acquire("a", pool="tenant-b").status == "granted"
    assert store.size(pool="tenant-a") == store.size(pool="tenant-b") == 1
