"""The index of tasks: in which pool a task's newest ticket is."""

import pytest

from tests.support.stores import POOL


def parked(store, pool=POOL):
    """The token of the slot for which "t:0" waits."""
    token = store.acquire("first", pool=pool).token
    store.acquire("t:0", pool=pool)
    return token


def test_a_task_is_located_from_its_parking_to_its_end(store):
    token = store.acquire("first").token
    assert store.located("t", "first") == {}
    store.acquire("t:0")
    assert store.located("t", "nobody") == {"t": POOL}

    (heir,) = store.release("first", token).heirs
    store.put_back("t:0", heir.token)
    running = store.acquire("t:0").token
    assert store.located("t") == {"t": POOL}
    store.release("t:0", running, requeue=True)
    assert store.located("t") == {"t": POOL}
    store.release("t:0", store.acquire("t:0").token)

    assert store.located("t") == {}


@pytest.mark.parametrize("last", [False, True], ids=["beside another", "the last one"])
def test_a_ticket_that_is_withdrawn_is_located_no_more(store, last):
    parked(store)
    if not last:
        store.acquire("other:0")

    store.withdraw("t:0")

    assert store.located("t", "other") == ({} if last else {"other": POOL})


def test_the_newest_ticket_of_a_task_counts_and_an_older_one_does_not_take_it_out(store):
    parked(store)
    parked(store, pool="newer")
    assert store.located("t") == {"t": "newer"}

    store.withdraw("t:0")

    assert store.located("t") == {"t": "newer"}
