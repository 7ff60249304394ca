"""What every store does when a run ends, or a ticket leaves."""

from cachify_tasks._core.replies import Heir, Reply
from tests.support.stores import LEASE


def test_release_frees_the_slot(store):
    token = store.acquire("a").token

    assert store.release("a", token) == Reply("released", token, held=0, limit=1)
    assert store.acquire("b").status == "granted"


def test_release_hands_over_in_the_order_of_arrival(store):
    token = store.acquire("a").token
    waiting = ["m", "z", "c", "b"]
    for name in waiting:
        store.acquire(name)
    order, holder = [], "a"
    for _ in waiting:
        (heir,) = store.release(holder, token).heirs
        token, holder = store.acquire(heir.holder).token, heir.holder
        order.append(holder)

    assert order == waiting


def test_an_heir_has_its_slot_before_it_starts(store):
    token = store.acquire("a").token
    store.acquire("b")

    reply = store.release("a", token)

    assert reply == Reply(
        "released", token, held=1, limit=1, heirs=(Heir("b", reply.heirs[0].token, b"message of b", 0, "task/test"),)
    )
    assert store.reserved() == ["b"]
    assert store.acquire("c").status == "parked"
    assert store.envelopes() == {"b": b"message of b", "c": b"message of c"}


def test_a_caller_that_cannot_start_heirs_gets_none(store):
    token = store.acquire("a").token
    store.acquire("b")

    assert store.release("a", token, can_start_heirs=False).heirs == ()
    assert [heir.holder for heir in store.sweep().heirs] == ["b"]


def test_a_release_that_is_sent_again_has_the_same_answer(store):
    token = store.acquire("a").token
    store.acquire("b")
    first = store.release("a", token)
    assert first.heirs

    assert store.release("a", token) == first
    assert store.reserved() == ["b"]


def test_a_release_that_is_sent_again_does_not_name_heirs_that_have_started(store):
    tokens = [store.acquire(name, limit=2).token for name in "ab"]
    for name in "cd":
        store.acquire(name, limit=2)
    store.release("a", tokens[0])
    store.acquire("c", limit=2)

    assert store.release("a", tokens[0]).heirs == ()


def test_a_run_that_lost_its_lease_frees_nobody_elses_slot(store):
    token = store.acquire("a").token
    store.later(LEASE + 1)
    other = store.acquire("b")

    assert store.release("a", token).status == "lost"
    assert store.running() == ["b"]
    assert store.renew("b", other.token).status == "renewed"


def test_a_run_that_lost_its_lease_does_not_free_the_second_run_of_its_task(store):
    old = store.acquire("a", request_id="first").token
    store.later(LEASE + 1)
    new = store.acquire("a", request_id="second").token

    assert store.release("a", old, request_id="first") == Reply("lost", old, held=1, limit=1)
    assert store.renew("a", new).status == "renewed"
    assert store.release("a", new).status == "released"


def test_a_run_that_lost_its_lease_and_ended_lets_no_second_one_start(store):
    token = store.acquire("a").token
    store.acquire("a", request_id="standby")
    store.later(LEASE + 1)
    assert [heir.holder for heir in store.sweep().heirs] == ["a"]

    assert store.release("a", token).status == "lost"
    assert store.size() == 0
    assert store.envelopes() == {}
    assert store.acquire("a").status == "dropped"


def test_a_run_that_lost_its_lease_and_ended_leaves_its_reserved_slot_to_the_next(store):
    token = store.acquire("a").token
    store.acquire("a", request_id="standby")
    store.acquire("b")
    store.later(LEASE + 1)
    store.sweep()

    reply = store.release("a", token)

    assert (reply.status, [heir.holder for heir in reply.heirs]) == ("lost", ["b"])
    assert store.release("a", token) == reply


def test_a_requeued_task_keeps_its_rank(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.acquire("c")
    store.release("a", token)
    token = store.acquire("b").token

    reply = store.release("b", token, requeue=True)

    assert [heir.holder for heir in reply.heirs] == ["b"]
    assert store.envelopes().keys() == {"b", "c"}


def test_a_task_requeued_twice_goes_to_the_end_of_the_queue(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.acquire("c")
    store.release("a", token)
    token = store.acquire("b").token
    store.release("b", token, requeue=True)
    token = store.acquire("b").token

    reply = store.release("b", token, requeue=True)

    assert [heir.holder for heir in reply.heirs] == ["c"]


def test_a_requeued_task_leaves_no_tombstone(store):
    token = store.acquire("a").token

    assert store.release("a", token, requeue=True).status == "released"
    assert store.acquire("a").status == "granted"


def test_a_release_that_requeues_has_the_same_answer_when_sent_again(store):
    token = store.acquire("a").token
    store.acquire("b")
    first = store.release("a", token, requeue=True)

    assert store.release("a", token, requeue=True) == first


def test_requeuing_a_run_that_lost_its_lease_changes_nothing(store):
    token = store.acquire("a").token
    store.acquire("a", request_id="standby")
    store.later(LEASE + 1)
    store.sweep()

    assert store.release("a", token, requeue=True).status == "lost"
    assert store.reserved() == ["a"]
    assert store.envelopes() == {"a": b"message of a"}


def test_a_task_revoked_while_it_ran_does_not_run_again(store):
    token = store.acquire("a").token
    store.acquire("a", request_id="standby")
    store.withdraw("a")

    assert store.release("a", token, requeue=True).status == "released"
    assert store.size() == 0
    assert store.acquire("a").status == "dropped"


def test_a_slot_whose_token_never_arrived_is_freed_by_its_request_id(store):
    store.acquire("a", request_id="r")

    assert store.release("a", 0, request_id="other").status == "lost"
    assert store.running() == ["a"]
    assert store.release("a", 0, request_id="r").status == "released"
    assert store.size() == 0


def test_requeuing_a_request_that_has_no_slot_bars_no_later_delivery(store):
    reply = store.release("a", 0, request_id="r", requeue=True)

    assert reply.status == "lost"
    assert store.acquire("a").status == "granted"


def test_one_script_names_64_heirs_at_most_and_the_next_one_the_rest(store):
    store.acquire("first", limit=1)
    for number in range(70):
        store.acquire(f"t{number:02}", limit=1)
    store.configure(100)

    replies = [store.sweep(), store.sweep(), store.sweep()]

    assert [len(reply.heirs) for reply in replies] == [64, 6, 0]
    assert [heir.holder for reply in replies for heir in reply.heirs] == [f"t{number:02}" for number in range(70)]
    assert {heir.waited_ms for reply in replies for heir in reply.heirs} == {0}  # though places ran ahead of the clock
    assert replies[-1].held == 71
    store.configure(None)


def test_a_waiting_task_that_is_withdrawn_never_starts(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.acquire("c")

    assert store.withdraw("b") == Reply("withdrawn", token=0, held=1, limit=1)
    assert [heir.holder for heir in store.release("a", token).heirs] == ["c"]
    assert store.acquire("b").status == "dropped"
    assert store.envelopes().keys() == {"c"}


def test_a_reserved_task_that_is_withdrawn_leaves_its_slot_to_the_next(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.acquire("c")
    store.release("a", token)

    reply = store.withdraw("b")

    assert [heir.holder for heir in reply.heirs] == ["c"]
    assert store.withdraw("b") == reply
    assert store.start_reserved("b").status == "dropped"


def test_a_running_task_that_is_withdrawn_goes_on_and_nothing_starts_after_it(store):
    token = store.acquire("a").token
    store.acquire("a", request_id="standby")

    assert store.withdraw("a").status == "withdrawn"
    assert store.renew("a", token).status == "renewed"
    assert store.envelopes() == {}
    assert store.acquire("a", request_id="late").status == "dropped"
    assert store.release("a", token).status == "released"
    assert store.acquire("a").status == "dropped"


def test_a_task_withdrawn_before_it_came_is_dropped_when_it_comes(store):
    store.withdraw("a")

    assert store.acquire("a").status == "dropped"


def test_a_withdraw_that_can_start_nobody_reserves_nothing(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.acquire("c")
    store.release("a", token)

    assert store.withdraw("b", can_start_heirs=False).heirs == ()
    assert store.size() == 0
    assert store.inspect().waiting == 1
