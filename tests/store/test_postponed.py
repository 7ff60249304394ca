"""Messages that are kept until they are due."""

import pytest

from cachify_tasks._core.key_commands import ForgetPostponed
from cachify_tasks._core.replies import Postponed

pytestmark = pytest.mark.leaks("keys", reason="messages stay until they are sent")


def test_a_message_is_taken_when_it_is_due_and_not_before(store):
    store.postpone("a", b"\xff1", 10)
    store.later(9)
    assert store.take_postponed() == Postponed({}, 1000)

    store.later(1)

    assert store.take_postponed().messages == {"a": b"\xff1"}


def test_one_that_was_taken_and_not_sent_comes_again_when_its_taker_must_have_died(store):
    store.postpone("a", b"1", 0)
    assert store.take_postponed(hide=30) == Postponed({"a": b"1"}, 30_000)
    store.later(29)
    assert store.take_postponed().messages == {}

    store.later(1)

    assert store.take_postponed().messages == {"a": b"1"}


def test_one_that_was_sent_is_gone(store):
    store.postpone("a", b"1", 0)
    store.take_postponed()

    store.send(ForgetPostponed("q", ("a", "nobody")))

    store.later(60)
    assert store.take_postponed() == Postponed({}, None)


def test_the_oldest_are_taken_first_and_no_more_than_asked_for(store):
    for number, seconds in enumerate((3, 1, 2)):
        store.postpone(f"m{number}", b"", seconds)
    store.later(5)

    assert list(store.take_postponed(limit=2).messages) == ["m1", "m2"]
    assert store.take_postponed(limit=2) == Postponed({"m0": b""}, 30_000)


def test_a_message_that_is_postponed_twice_is_one_and_queues_are_apart(store):
    store.postpone("a", b"1", 5)
    store.postpone("a", b"2", 1)
    store.postpone("a", b"3", 1, queue="other {queue}")
    store.later(1)

    assert store.take_postponed().messages == {"a": b"2"}
    assert store.take_postponed(queue="other {queue}").messages == {"a": b"3"}


def test_one_whose_message_an_evicting_server_has_lost_is_forgotten(redis_store):
    redis_store.postpone("a", b"1", 0)
    redis_store.client.delete(redis_store.store.schema.postponed("q")[1])

    assert redis_store.take_postponed() == Postponed({}, None)
