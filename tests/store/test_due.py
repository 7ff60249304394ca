"""When a reaper is due, and who is the reaper."""

from tests.support.stores import LEASE, POOL, START


def test_a_free_slot_and_a_ticket_call_a_reaper_at_once(store):
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


def test_a_renewed_lease_puts_the_reaper_off(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.later(LEASE - 1)
    store.renew("a", token)

    store.later(LEASE - 1)

    assert store.due() == []
    store.later(1)
    assert store.due() == [POOL]


def test_a_reaper_is_due_when_a_heir_has_not_started_in_time(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.release("a", token)
    store.later(START - 1)
    assert store.due() == []

    store.later(1)

    assert store.due() == [POOL]


def test_a_reaper_that_could_not_take_all_is_due_again(store):
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


def test_a_paused_pool_calls_no_reaper_until_it_goes_on(store):
    store.configure(0)
    store.acquire("a")
    store.later(LEASE)
    assert store.due() == []

    store.configure(None)

    assert store.due() == [POOL]


def test_a_pool_without_tickets_calls_no_reaper(store):
    store.acquire("a")
    store.later(LEASE + 1)

    assert store.due() == store.ticketed() == []


def test_pools_with_tickets_are_told_apart_from_those_with_slots_alone(store):
    for pool in ("one", "two", "three"):
        store.acquire("a", pool=pool)
    store.acquire("b", pool="two")
    store.acquire("a", pool="three", request_id="standby")

    assert store.ticketed() == ["three", "two"]


def test_one_of_many_gets_a_claim_and_keeps_it_for_its_time(store):
    assert store.claim("reaper", 60)
    assert not store.claim("reaper", 60)
    assert store.claim("another", 60)
    store.later(59)
    assert not store.claim("reaper", 60)

    store.later(1)

    assert store.claim("reaper", 60)
    assert not store.claim("reaper", 60)
