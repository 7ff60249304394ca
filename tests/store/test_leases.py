"""What keeps a slot, and what happens to one that nothing keeps, in every store."""

from cachify_tasks._core.replies import Reply
from tests.support.stores import LEASE, START


def test_renew_extends_the_lease(store):
    token = store.acquire("a").token
    for _ in range(5):
        store.later(LEASE - 1)
        assert store.renew("a", token) == Reply("renewed", token, held=1, limit=1)

    assert store.acquire("b").status == "parked"


def test_renew_saves_a_slot_whose_expiry_nobody_has_noticed(store):
    token = store.acquire("a").token
    store.later(LEASE + 1)
    assert store.size() == 0

    assert store.renew("a", token).status == "renewed"
    assert store.size() == 1


def test_renew_never_brings_back_a_slot_that_is_gone(store):
    token = store.acquire("a").token
    store.later(LEASE + 1)
    store.sweep()

    assert store.renew("a", token) == Reply("lost", token, held=0, limit=1)
    assert store.size() == 0


def test_renew_of_a_holder_never_seen_is_lost(store):
    assert store.renew("a", 7) == Reply("lost", 7, held=0, limit=0)
    assert store.pools() == []


def test_renew_with_an_old_token_changes_nothing(store):
    old = store.acquire("a").token
    store.later(LEASE + 1)
    store.acquire("a", request_id="second run")
    store.later(20)

    assert store.renew("a", old).status == "lost"
    assert store.inspect().holders[0].expires_in == LEASE - 20


def test_the_message_of_an_early_acknowledged_heir_goes_when_it_has_started(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.release("a", token)
    token = store.acquire("b").token
    assert store.renew("b", token).status == "renewed"
    assert store.envelopes() == {"b": b"message of b"}

    assert store.renew("b", token, started=True).status == "renewed"
    assert store.envelopes() == {}


def test_a_message_is_kept_when_the_lease_of_its_start_was_lost(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.release("a", token)

    assert store.renew("b", token, started=True).status == "lost"
    assert store.envelopes() == {"b": b"message of b"}


def test_a_hard_limit_ends_a_slot_though_it_is_renewed(store):
    token = store.acquire("a", slot_exp_ms=45_000).token
    store.later(20)
    assert store.renew("a", token).status == "renewed"
    store.later(20)
    assert store.renew("a", token).status == "renewed"
    assert store.inspect().holders[0].expires_in == 5

    store.later(6)

    assert store.size() == 0
    assert store.renew("a", token).status == "lost"
    assert store.acquire("b").status == "granted"


def test_a_hard_limit_shorter_than_the_lease_is_the_deadline(store):
    store.acquire("a", slot_exp_ms=5_000)

    assert store.inspect().holders[0].expires_in == 5


def test_a_slot_past_its_hard_limit_is_not_renewed_though_nobody_has_noticed(store):
    token = store.acquire("a", slot_exp_ms=5_000).token
    store.later(5)

    assert store.renew("a", token).status == "lost"


def test_the_hard_limit_of_an_heir_counts_from_its_start(store):
    token = store.acquire("a").token
    store.acquire("b", slot_exp_ms=5_000)
    store.release("a", token)
    store.later(9)

    token = store.acquire("b", slot_exp_ms=5_000).token

    assert store.inspect().holders[0].expires_in == 5
    store.later(4)
    assert store.renew("b", token).status == "renewed"


def test_sweep_gives_the_slot_of_a_dead_run_to_the_oldest(store):
    store.acquire("a")
    store.acquire("b")
    store.later(LEASE + 1)

    reply = store.sweep()

    assert (reply.status, [heir.holder for heir in reply.heirs], reply.held) == ("swept", ["b"], 1)


def test_sweep_of_a_pool_with_nothing_to_do_changes_nothing(store):
    store.acquire("a")
    store.acquire("b")

    assert store.sweep() == Reply("swept", token=0, held=1, limit=1)
    assert store.sweep(pool="never seen") == Reply("swept", token=0, held=0, limit=0)


def test_a_slot_is_valid_up_to_and_with_its_deadline(store):
    store.acquire("a")
    store.later(LEASE)
    assert store.size() == 1
    assert store.sweep().held == 1

    store.later(0.000001)

    assert store.size() == 0
    assert store.sweep().held == 0


def test_an_heir_that_does_not_start_in_time_is_offered_again(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.acquire("c")
    first = store.release("a", token).heirs[0]
    store.later(START + 1)

    (second,) = store.sweep().heirs

    assert first.holder == second.holder == "b"
    assert second.token > first.token


def test_an_heir_that_nobody_can_start_does_not_block_the_others(store):
    token = store.acquire("a").token
    store.acquire("poison")
    store.acquire("c")
    store.release("a", token)
    offered = []
    for patience in (1, 2):
        store.later(patience * START + 1)
        offered += [heir.holder for heir in store.sweep().heirs]

    assert offered == ["poison", "c"]
    assert store.inspect().waiting == 1


def test_an_envelope_of_a_dead_run_keeps_its_place(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.acquire("c")
    store.release("a", token)
    store.acquire("b")
    store.later(LEASE + 1)

    assert [heir.holder for heir in store.sweep().heirs] == ["b"]
