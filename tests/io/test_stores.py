"""What every store answers: one suite over memory and Redis, synchronous and asynchronous."""

import pytest

from cachify_tasks._core.commands import Delete, Get, Heir, Put, Reply
from tests.support.stores import BEGIN, LEASE, POOL, START, TOMB

# acquire -------------------------------------------------------------------------------------------


def test_a_free_slot_is_granted(store):
    reply = store.acquire("a", limit=2)

    assert reply == Reply("granted", token=reply.token, held=1, limit=2)
    assert store.running() == ["a"]


def test_a_full_pool_refuses_who_cannot_wait(store):
    store.plain("a", limit=1)

    reply = store.plain("b", limit=1)

    assert reply == Reply("full", token=0, held=1, limit=1)
    assert store.running() == ["a"]
    assert store.look().waiting == 0


def test_a_full_pool_parks_who_can_wait_and_keeps_the_message(store):
    store.acquire("a")

    reply = store.acquire("b", envelope=b"\x00\xff|any bytes")

    assert reply == Reply("parked", token=0, held=1, limit=1)
    assert store.look().waiting == 1
    assert store.envelopes() == {"b": b"\x00\xff|any bytes"}


def test_a_granted_acquire_that_is_sent_again_has_the_same_slot(store):
    first = store.acquire("a", limit=3, rid="r")

    again = store.acquire("a", limit=3, rid="r")

    assert again == first
    assert store.size() == 1


def test_a_granted_acquire_is_answered_again_while_others_wait(store):
    first = store.acquire("a", rid="r")
    store.acquire("b")

    again = store.acquire("a", rid="r")

    assert again == first


def test_a_parked_acquire_that_is_sent_again_waits_once(store):
    store.acquire("a")
    first = store.acquire("b", rid="r")

    again = store.acquire("b", rid="r")

    assert again == first
    assert store.look().waiting == 1


def test_a_second_delivery_of_a_waiting_task_waits_once(store):
    store.acquire("a")
    store.acquire("b", rid="first")

    assert store.acquire("b", rid="second").status == "parked"
    assert store.look().waiting == 1


def test_a_second_delivery_of_a_running_task_is_kept_aside(store):
    first = store.acquire("a", limit=2, rid="first")

    reply = store.acquire("a", limit=2, rid="second")

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
def test_a_nudge_for_what_does_not_wait_is_dropped(store, state):
    token = store.acquire("a").token if state != "unknown" else 0
    if state == "ended":
        store.release("a", token)

    reply = store.acquire("a", nudge=True)

    assert reply.status == "dropped"
    assert store.running() == ["a"] * (state == "running")
    assert store.envelopes() == {}


def test_a_nudge_for_a_waiting_task_leaves_it_waiting(store):
    store.acquire("a")
    store.acquire("b")

    assert store.acquire("b", nudge=True).status == "parked"
    assert store.look().waiting == 1


def test_a_nudge_starts_a_reserved_task(store):
    token = store.acquire("a").token
    store.acquire("b")
    heir = store.release("a", token).heirs[0]

    reply = store.acquire("b", nudge=True)

    assert (reply.status, reply.token) == ("granted", heir.token)


def test_whoever_comes_first_starts_a_reserved_task_and_others_stand_by(store):
    token = store.acquire("a").token
    store.acquire("b")
    heir = store.release("a", token).heirs[0]

    first = store.acquire("b", rid="first")
    second = store.acquire("b", rid="second")

    assert first == Reply("granted", heir.token, held=1, limit=1)
    assert second.status == "standby"
    assert store.running() == ["b"]


def test_a_start_that_is_sent_again_is_answered_the_same(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.release("a", token)
    first = store.acquire("b", rid="r")

    assert store.acquire("b", rid="r") == first


def test_a_start_turns_the_short_deadline_into_a_lease(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.release("a", token)
    assert store.look().holders[0].expires_in == START

    store.acquire("b", label="the task")

    (view,) = store.look().holders
    assert (view.expires_in, view.label, view.reserved) == (LEASE, "the task", False)


def test_nobody_overtakes_those_who_wait(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.release("a", token, starts=False)
    assert store.size() == 0

    assert store.plain("hasty", limit=1).status == "full"
    assert store.acquire("c", starts=False).status == "parked"
    assert store.look().waiting == 2


def test_a_newcomer_that_can_start_heirs_is_told_of_the_oldest(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.release("a", token, starts=False)

    reply = store.acquire("c")

    assert (reply.status, [heir.holder for heir in reply.heirs]) == ("parked", ["b"])
    assert store.reserved() == ["b"]


def test_the_heir_that_asks_itself_is_started_and_not_named(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.release("a", token, starts=False)

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
    assert store.look().waiting == 0


def test_a_tombstone_has_a_life(store):
    store.release("a", store.acquire("a").token, tomb_ms=40_000)

    store.later(39)
    assert store.acquire("a").status == "dropped"
    store.later(2)
    assert store.acquire("a").status == "granted"


def test_who_cannot_be_a_late_copy_is_not_taken_for_one(store):
    store.release("a", store.acquire("a").token)

    assert store.acquire("a", fresh=True).status == "granted"


def test_a_fresh_arrival_that_is_sent_again_has_the_same_slot(store):
    store.release("a", store.acquire("a").token)
    first = store.plain("a", rid="r", fresh=True)

    assert store.plain("a", rid="r", fresh=True) == first


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


def test_another_limit_for_one_pool_is_told_once_and_the_last_one_counts(store):
    assert store.plain("a", limit=1).was == 0
    assert store.plain("b", limit=2) == Reply("granted", store.look().holders[-1].token, held=2, limit=2, was=1)
    assert store.plain("c", limit=2).was == 0

    reply = store.plain("d", limit=1)

    assert (reply.status, reply.held, reply.limit, reply.was) == ("full", 2, 1, 2)


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


# hard limits ---------------------------------------------------------------------------------------


def test_a_hard_limit_ends_a_slot_though_it_is_renewed(store):
    token = store.acquire("a", hard_ms=45_000).token
    store.later(20)
    assert store.renew("a", token).status == "renewed"
    store.later(20)
    assert store.renew("a", token).status == "renewed"
    assert store.look().holders[0].expires_in == 5

    store.later(6)

    assert store.size() == 0
    assert store.renew("a", token).status == "lost"
    assert store.acquire("b").status == "granted"


def test_a_hard_limit_shorter_than_the_lease_is_the_deadline(store):
    store.acquire("a", hard_ms=5_000)

    assert store.look().holders[0].expires_in == 5


def test_a_slot_past_its_hard_limit_is_not_renewed_though_nobody_has_noticed(store):
    token = store.acquire("a", hard_ms=5_000).token
    store.later(5)

    assert store.renew("a", token).status == "lost"


def test_the_hard_limit_of_a_heir_counts_from_its_start(store):
    token = store.acquire("a").token
    store.acquire("b", hard_ms=5_000)
    store.release("a", token)
    store.later(9)

    token = store.acquire("b", hard_ms=5_000).token

    assert store.look().holders[0].expires_in == 5
    store.later(4)
    assert store.renew("b", token).status == "renewed"


# renew ---------------------------------------------------------------------------------------------


def test_renew_puts_the_deadline_off(store):
    token = store.acquire("a").token
    for _ in range(5):
        store.later(LEASE - 1)
        assert store.renew("a", token) == Reply("renewed", token, held=1, limit=1)

    assert store.acquire("b").status == "parked"


def test_renew_saves_a_slot_just_passed_that_nobody_has_noticed(store):
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
    store.acquire("a", rid="second run")
    store.later(20)

    assert store.renew("a", old).status == "lost"
    assert store.look().holders[0].expires_in == LEASE - 20


def test_the_message_of_an_early_acknowledged_heir_goes_when_it_has_started(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.release("a", token)
    token = store.acquire("b").token
    assert store.renew("b", token).status == "renewed"
    assert store.envelopes() == {"b": b"message of b"}

    assert store.renew("b", token, acked=True).status == "renewed"
    assert store.envelopes() == {}


def test_a_message_is_kept_when_the_lease_of_its_start_was_lost(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.release("a", token)

    assert store.renew("b", token, acked=True).status == "lost"
    assert store.envelopes() == {"b": b"message of b"}


# release -------------------------------------------------------------------------------------------


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


def test_a_heir_has_its_slot_before_it_starts(store):
    token = store.acquire("a").token
    store.acquire("b")

    reply = store.release("a", token)

    assert reply == Reply("released", token, held=1, limit=1, heirs=(Heir("b", reply.heirs[0].token),))
    assert store.reserved() == ["b"]
    assert store.acquire("c").status == "parked"
    assert store.envelopes() == {"b": b"message of b", "c": b"message of c"}


def test_who_cannot_start_heirs_is_told_of_none(store):
    token = store.acquire("a").token
    store.acquire("b")

    assert store.release("a", token, starts=False).heirs == ()
    assert [heir.holder for heir in store.sweep().heirs] == ["b"]


def test_a_release_that_is_sent_again_is_answered_the_same(store):
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
    old = store.acquire("a", rid="first").token
    store.later(LEASE + 1)
    new = store.acquire("a", rid="second").token

    assert store.release("a", old, rid="first") == Reply("lost", old, held=1, limit=1)
    assert store.renew("a", new).status == "renewed"
    assert store.release("a", new).status == "released"


def test_a_run_that_lost_its_lease_and_ended_lets_no_second_one_start(store):
    token = store.acquire("a").token
    store.acquire("a", rid="standby")
    store.later(LEASE + 1)
    assert [heir.holder for heir in store.sweep().heirs] == ["a"]

    assert store.release("a", token).status == "lost"
    assert store.size() == 0
    assert store.envelopes() == {}
    assert store.acquire("a").status == "dropped"


def test_a_run_that_lost_its_lease_and_ended_leaves_its_reserved_slot_to_the_next(store):
    token = store.acquire("a").token
    store.acquire("a", rid="standby")
    store.acquire("b")
    store.later(LEASE + 1)
    store.sweep()

    reply = store.release("a", token)

    assert (reply.status, [heir.holder for heir in reply.heirs]) == ("lost", ["b"])
    assert store.release("a", token) == reply


def test_a_task_that_shall_run_again_returns_to_its_place(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.acquire("c")
    store.release("a", token)
    token = store.acquire("b").token

    reply = store.release("b", token, again=True)

    assert [heir.holder for heir in reply.heirs] == ["b"]
    assert store.envelopes().keys() == {"b", "c"}


def test_a_task_that_runs_again_and_again_goes_to_the_tail(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.acquire("c")
    store.release("a", token)
    token = store.acquire("b").token
    store.release("b", token, again=True)
    token = store.acquire("b").token

    reply = store.release("b", token, again=True)

    assert [heir.holder for heir in reply.heirs] == ["c"]


def test_a_task_that_shall_run_again_leaves_no_tombstone(store):
    token = store.acquire("a").token

    assert store.release("a", token, again=True).status == "released"
    assert store.acquire("a").status == "granted"


def test_a_release_for_another_run_is_answered_the_same_when_sent_again(store):
    token = store.acquire("a").token
    store.acquire("b")
    first = store.release("a", token, again=True)

    assert store.release("a", token, again=True) == first


def test_a_lost_run_that_shall_run_again_changes_nothing(store):
    token = store.acquire("a").token
    store.acquire("a", rid="standby")
    store.later(LEASE + 1)
    store.sweep()

    assert store.release("a", token, again=True).status == "lost"
    assert store.reserved() == ["a"]
    assert store.envelopes() == {"a": b"message of a"}


def test_a_task_revoked_while_it_ran_does_not_run_again(store):
    token = store.acquire("a").token
    store.acquire("a", rid="standby")
    store.withdraw("a")

    assert store.release("a", token, again=True).status == "released"
    assert store.size() == 0
    assert store.acquire("a").status == "dropped"


def test_a_slot_whose_token_never_arrived_is_freed_by_its_arrival(store):
    store.acquire("a", rid="r")

    assert store.release("a", 0, rid="other").status == "lost"
    assert store.running() == ["a"]
    assert store.release("a", 0, rid="r").status == "released"
    assert store.size() == 0


def test_taking_back_an_arrival_that_has_no_slot_bars_no_later_copy(store):
    reply = store.release("a", 0, rid="r", again=True)

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
    assert replies[-1].held == 71
    store.configure(None)


# withdraw ------------------------------------------------------------------------------------------


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
    assert store.acquire("b", nudge=True).status == "dropped"


def test_a_running_task_that_is_withdrawn_goes_on_and_nothing_starts_after_it(store):
    token = store.acquire("a").token
    store.acquire("a", rid="standby")

    assert store.withdraw("a").status == "withdrawn"
    assert store.renew("a", token).status == "renewed"
    assert store.envelopes() == {}
    assert store.acquire("a", rid="late").status == "dropped"
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

    assert store.withdraw("b", starts=False).heirs == ()
    assert store.size() == 0
    assert store.look().waiting == 1


# sweep ---------------------------------------------------------------------------------------------


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


def test_a_heir_that_does_not_start_in_time_is_offered_again(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.acquire("c")
    first = store.release("a", token).heirs[0]
    store.later(START + 1)

    (second,) = store.sweep().heirs

    assert first.holder == second.holder == "b"
    assert second.token > first.token


def test_a_heir_that_nobody_can_start_does_not_block_the_others(store):
    token = store.acquire("a").token
    store.acquire("poison")
    store.acquire("c")
    store.release("a", token)
    offered = []
    for _ in range(2):
        store.later(START + 1)
        offered += [heir.holder for heir in store.sweep().heirs]

    assert offered == ["poison", "c"]
    assert store.look().waiting == 1


def test_an_envelope_of_a_dead_run_keeps_its_place(store):
    token = store.acquire("a").token
    store.acquire("b")
    store.acquire("c")
    store.release("a", token)
    store.acquire("b")
    store.later(LEASE + 1)

    assert [heir.holder for heir in store.sweep().heirs] == ["b"]


# configure -----------------------------------------------------------------------------------------


def test_a_raised_limit_is_filled_by_the_next_sweep(store):
    for name in "abcd":
        store.acquire(name)

    assert store.configure(3) == Reply("configured", token=0, held=1, limit=3)
    assert [heir.holder for heir in store.sweep().heirs] == ["b", "c"]
    store.configure(None)


def test_a_limit_of_zero_pauses_a_pool(store):
    token = store.acquire("a").token
    store.configure(0)

    reply = store.plain("b")
    assert (reply.status, reply.limit) == ("full", 0)
    store.acquire("c")
    assert store.release("a", token).heirs == ()
    assert store.sweep().heirs == ()

    assert store.configure(None).limit == 1
    assert [heir.holder for heir in store.sweep().heirs] == ["c"]


def test_a_limit_set_at_run_time_stands_above_those_of_acquires(store):
    store.plain("a", limit=1)
    store.configure(3)

    reply = store.plain("b", limit=2)

    assert (reply.status, reply.limit, reply.was) == ("granted", 3, 1)
    assert store.configure(None).limit == 2


def test_a_lowered_limit_drains(store):
    tokens = [store.acquire(name, limit=3).token for name in "abc"]
    store.acquire("d", limit=3)

    assert store.configure(1) == Reply("configured", token=0, held=3, limit=1)
    assert store.release("a", tokens[0]).heirs == ()
    assert store.release("b", tokens[1]).heirs == ()
    assert [heir.holder for heir in store.release("c", tokens[2]).heirs] == ["d"]
    store.configure(None)


@pytest.mark.leaks("keys", reason="a limit set at run time stays until it is taken back")
def test_a_limit_set_at_run_time_outlives_idleness(store):
    store.configure(5)
    store.later(30 * 86400)

    assert store.look().limit == 5
    assert store.plain("a", limit=1).limit == 5


# look, size, pools ---------------------------------------------------------------------------------


def test_look_tells_who_holds_what(store):
    token = store.acquire("a", limit=2, label="app.sync @worker|1\n").token
    store.later(5)
    other = store.acquire("b", limit=2).token
    store.acquire("c", limit=2)
    heir = store.release("b", other).heirs[0]
    store.acquire("d", limit=2)

    view = store.look()

    assert (view.name, view.limit, view.waiting) == (POOL, 2, 1)
    assert [tuple(holder) for holder in view.holders] == [
        ("c", heir.token, "", True, BEGIN / 1e6 + 5, START),
        ("a", token, "app.sync @worker|1\n", False, BEGIN / 1e6, LEASE - 5),
    ]


def test_a_dead_run_is_neither_counted_nor_shown(store):
    store.acquire("a", limit=2)
    store.later(LEASE + 1)
    store.send(Delete("unrelated"))

    assert store.size() == 0
    assert store.look().holders == ()


def test_a_pool_never_seen_is_empty(store):
    assert store.size() == 0
    assert tuple(store.look()) == (POOL, 0, 0, ())
    assert store.pools() == []


def test_pools_names_those_with_holders_or_tickets(store):
    token = store.acquire("a", pool="one").token
    store.acquire("b", pool="two")
    store.acquire("c", pool="two")
    store.release("a", token, pool="one")
    other = store.acquire("a", pool="three").token

    assert store.pools() == ["three", "two"]

    store.release("a", other, pool="three")
    assert store.pools() == ["two"]


@pytest.mark.parametrize("name", ["a b", "Ж:ü", "{x}", "a|b*?", "t" * 300, "\n"])
def test_a_name_may_be_any_text(store, name):
    token = store.acquire(name, pool=name, label=name).token
    store.acquire(name + "2", pool=name)

    reply = store.release(name, token, pool=name)

    assert [heir.holder for heir in reply.heirs] == [name + "2"]
    assert store.release(name, token, pool=name) == reply
    assert store.pools() == [name]


# values --------------------------------------------------------------------------------------------


def test_a_value_is_kept_until_it_is_deleted_or_its_time_is_over(store):
    assert store.send(Get("k")) is None
    assert store.send(Put("k", b"\x00\xff", 60_000)) is None
    assert store.send(Put("mortal", b"m", 5_000)) is None
    assert store.send(Get("k")) == b"\x00\xff"

    store.later(5)
    assert store.send(Get("mortal")) is None
    assert store.send(Get("k")) == b"\x00\xff"

    assert store.send(Delete("k")) is None
    assert store.send(Get("k")) is None
    assert store.send(Delete("k")) is None


@pytest.mark.leaks("keys", reason="a value kept without a ttl")
def test_a_value_without_a_ttl_stays(store):
    store.send(Put("k", b"v", 5_000))
    store.send(Put("k", b"w", None))
    store.later(10 * TOMB)

    assert store.send(Get("k")) == b"w"
