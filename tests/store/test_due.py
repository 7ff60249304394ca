"""When a reaper is due, and who is the reaper."""

from tests.support.stores import LEASE, POOL, START


def test_a_reaper_is_due_at_once_at_a_free_slot_and_a_ticket(store):
    token = store.acquire("a").token
    store.acquire("b")
    assert store.due() == []

    store.release("a", token, can_start_heirs=False)

    assert store.due() == [POOL]
    store.sweep()
    assert store.due() == []


def test_a_reaper_is_due_when_the_first_of_the_leases_ends(store):
    store.acquire("a", limit=2)
    store.later(10)
    token = store.acquire("b", limit=2).token
    store.acquire("c", limit=2)
    store.later(LEASE - 10 - 1)
    assert store.due() == []

    store.later(1)

    assert store.due() == [POOL]
    assert store.renew("b", token).status == "renewed"
    assert store.due() == [POOL]


def test_a_reaper_is_due_later_when_the_lease_is_renewed(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.later(LEASE - 1)
    store.renew("a", token)

    store.later(LEASE - 1)

    assert store.due() == []
    store.later(1)
    assert store.due() == [POOL]


def test_a_reaper_is_due_when_an_heir_has_not_started_in_time(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.release("a", token)
    store.later(START - 1)
    assert store.due() == []

    store.later(1)

    assert store.due() == [POOL]


def test_a_reaper_is_due_again_when_it_could_not_take_all(store):
    for number in range(66):
        store.acquire(f"t{number}")
    store.configure(100)
    store.sweep()
    assert store.due() == [POOL]

    store.sweep()

    assert store.due() == []
    store.configure(None)


def test_a_reaper_is_due_at_a_raised_limit_that_nobody_has_filled(store):
    store.acquire("a")
    store.acquire("b")
    store.configure(2)

    assert store.due() == [POOL]
    assert store.configure(2, can_start_heirs=True).heirs
    assert store.due() == []
    store.configure(None)


def test_no_reaper_is_due_in_a_paused_pool_until_it_goes_on(store):
    store.configure(0)
    store.acquire("a")
    store.later(LEASE)
    assert store.due() == []

    store.configure(None)

    assert store.due() == [POOL]


def test_no_reaper_is_due_in_a_pool_without_tickets(store):
    store.acquire("a")
    store.later(LEASE + 1)

    assert store.due() == store.ticketed() == []


def test_pools_with_tickets_are_listed_apart_from_those_with_slots_alone(store):
    for pool in ("one", "two", "three"):
        store.acquire("a", pool=pool)
    store.acquire("b", pool="two")
    store.acquire("a", pool="three", request_id="standby")

    assert store.ticketed() == ["three", "two"]


def test_one_of_many_gets_a_claim_and_keeps_it_until_its_ttl(store):
    assert store.claim("reaper", 60)
    assert not store.claim("reaper", 60)
    assert store.claim("another", 60)
    store.later(59)
    assert not store.claim("reaper", 60)

    store.later(1)

    assert store.claim("reaper", 60)
    assert not store.claim("reaper", 60)
