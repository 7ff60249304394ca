"""Finding the ticket of a task."""

from cachify_tasks._core.commands import Find
from tests.support.stores import LEASE, POOL


def test_a_waiting_task_is_found_by_its_id(store):
    store.acquire("other:0")
    store.acquire("any name", task_id="id:with|colons")
    assert store.find("id:with|colons") == "any name"
    store.acquire("id:with:colons:3")

    assert store.find("id:with:colons") == "id:with:colons:3"
    assert store.find("id:with:colons:3") is None
    assert store.find("id") is None
    assert store.find("other") is None
    assert store.find("id:with:colons", pool="another") is None


def test_a_ticket_without_a_task_id_is_not_found(store):
    store.acquire("a")
    store.acquire("b")

    assert store.find("b") is None


def test_a_task_is_found_as_long_as_the_store_has_its_message(store):
    token = store.acquire("a").token
    store.acquire("t:0")
    store.release("a", token)
    assert store.find("t") == "t:0"
    token = store.acquire("t:0").token
    assert store.find("t") == "t:0"

    store.release("t:0", token)

    assert store.find("t") is None


def test_a_task_whose_second_message_is_kept_is_found_until_it_ends(store):
    token = store.acquire("t:0").token
    assert store.find("t") is None

    store.acquire("t:0")

    assert store.find("t") == "t:0"
    store.release("t:0", token)
    assert store.find("t") is None


def test_a_task_that_is_withdrawn_is_found_no_more(store):
    store.acquire("a")
    store.acquire("t:0")
    store.withdraw("t:0")

    assert store.find("t") is None


def test_an_heir_whose_message_went_when_it_started_is_found_no_more(store):
    token = store.acquire("a").token
    store.acquire("t:0")
    store.release("a", token)
    store.renew("t:0", store.acquire("t:0").token, started=True)

    assert store.find("t") is None


def test_a_task_that_ended_though_it_had_lost_its_lease_is_found_no_more(store):
    token = store.acquire("t:0").token
    store.acquire("t:0")
    store.later(LEASE + 1)
    store.sweep()
    assert store.find("t") == "t:0"

    store.release("t:0", token)

    assert store.find("t") is None


def test_of_two_attempts_the_later_one_is_found_though_the_earlier_one_ends(store):
    token = store.acquire("t:0").token
    store.acquire("t:0", request_id="standby")
    store.acquire("t:1")
    assert store.find("t") == "t:1"

    store.release("t:0", token)

    assert store.find("t") == "t:1"


def test_several_tasks_are_found_at_once_and_none_of_none(store):
    holder = store.acquire("a")
    store.acquire("t:0")
    store.acquire("u:1")
    store.release("a", holder.token)
    store.acquire("t:0")

    found = store.send(Find(POOL, ("u", "nobody", "t")))

    assert [(f.holder, f.waits, f.kind) for f in found] == [("u:1", True, "task/test"), ("t:0", False, "task/test")]
    assert store.send(Find(POOL, ())) == []
