"""An heir that its worker does not start: its reservation ends, and its ticket waits aside or returns to its place."""

from tests.support.stores import LEASE, START


def reserved(store):
    """The token of the slot that is reserved for "a"; "b" and "c" wait behind it."""
    token = store.acquire("first").token
    for name in ("a", "b", "c"):
        store.acquire(name)
    (heir,) = store.release("first", token).heirs
    return heir.token


def test_the_slot_of_an_heir_that_is_put_back_goes_to_the_next_ticket(store):
    heir = reserved(store)
    reply = store.put_back("a", heir, pause=1)

    assert (reply.status, reply.token, reply.held) == ("returned", heir, 1)
    assert [heir.holder for heir in reply.heirs] == ["b"]
    assert store.envelopes().keys() == {"a", "b", "c"}


def test_a_ticket_that_was_put_aside_has_its_place_again_when_its_pause_is_over(store):
    heir = reserved(store)
    store.put_back("a", heir, pause=1)
    store.later(1.000001)
    store.sweep()

    assert [heir.holder for heir in store.release("b", store.acquire("b").token).heirs] == ["a"]


def test_a_ticket_that_was_put_aside_gets_no_slot_while_its_pause_lasts(store):
    heir = reserved(store)
    store.put_back("a", heir, pause=1)
    store.release("b", store.acquire("b").token)
    assert store.release("c", store.acquire("c").token).heirs == ()
    store.later(0.999)
    assert store.sweep().heirs == ()

    store.later(0.001)

    assert [heir.holder for heir in store.sweep().heirs] == ["a"]


def test_a_reaper_is_due_when_the_pause_is_over(store):
    heir = reserved(store)
    store.put_back("a", heir, pause=1)
    for name in ("b", "c"):
        store.release(name, store.acquire(name).token)

    assert store.due_at() == store.now + 1_000_000
    assert store.due() == []
    store.later(1)
    assert store.due() == ["tenant-a"]


def test_a_reaper_is_due_at_the_end_of_a_lease_before_the_pause_is_over(store):
    heir = reserved(store)
    store.put_back("a", heir, pause=60)
    store.release("b", store.acquire("b", limit=2).token)
    store.acquire("c", limit=2)  # and the second slot is free

    assert store.due_at() == store.now + 30_000_000


def test_newcomers_go_before_a_ticket_that_was_put_aside(store):
    heir = reserved(store)
    store.put_back("a", heir, pause=60)
    for name in ("b", "c"):
        store.release(name, store.acquire(name).token)

    assert store.acquire("newcomer").status == "granted"


def test_a_function_goes_before_a_ticket_that_was_put_aside(store):
    heir = reserved(store)
    store.put_back("a", heir, pause=60)
    for name in ("b", "c"):
        store.release(name, store.acquire(name).token)

    plain = store.plain("function")
    assert plain.status == "granted"
    store.release("function", plain.token)
    assert store.wait("waiter").status == "granted"


def test_without_a_pause_the_ticket_has_its_place_at_once(store):
    heir = reserved(store)
    reply = store.put_back("a", heir, can_start_heirs=False)

    assert reply.heirs == ()
    assert [heir.holder for heir in store.sweep().heirs] == ["a"]


def test_an_heir_that_was_put_back_does_not_count_as_unused(store):
    heir = reserved(store)
    token = store.put_back("a", heir).heirs[0].token

    assert store.tickets()["a"].unused == 0
    assert not store.tickets()["a"].returned
    assert token > heir


def test_an_heir_that_has_started_is_not_put_back(store):
    heir = reserved(store)
    store.acquire("a")

    assert store.put_back("a", heir, pause=1).status == "lost"
    assert store.running() == ["a"]


def test_who_put_an_heir_back_does_not_end_its_next_reservation(store):
    heir = reserved(store)
    again = store.put_back("a", heir).heirs[0].token
    store.put_back("a", again)

    assert store.put_back("a", heir, pause=60).status == "lost"
    assert store.reserved() == ["a"]


def test_a_reply_that_was_lost_is_given_again_with_the_heirs_that_still_wait(store):
    heir = reserved(store)
    reply = store.put_back("a", heir, pause=1)

    assert store.put_back("a", heir, pause=1) == reply
    store.acquire("b")
    assert store.put_back("a", heir, pause=1).heirs == ()


def test_an_heir_says_for_how_long_workers_have_not_known_its_task(store):
    heir = reserved(store)
    said = []
    for pause in (2, 3, 100, 0):
        reply = store.put_back("a", heir, pause=pause, unknown=True, can_start_heirs=False)
        assert reply.heirs == ()
        store.later(pause)
        for name in ("b", "c"):
            store.withdraw(name, can_start_heirs=False)
        (again,) = store.sweep().heirs
        heir = again.token
        said.append(again.unknown_us / 1e6)

    assert said == [0, 2, 5, 35]  # a silence counts as 30 s at most


def test_a_run_of_the_task_ends_the_count_for_which_it_was_unknown(store):
    heir = reserved(store)
    for _ in range(2):
        heir = store.put_back("a", heir, unknown=True).heirs[0].token
        store.later(5)
    token = store.acquire("a").token

    (again,) = store.release("a", token, requeue=True).heirs

    assert again.unknown_us == 0


def test_an_heir_says_how_many_of_its_runs_have_killed_their_process(store):
    reserved(store)
    deaths = []
    for died in (False, True, True):
        token = store.acquire("a").token
        heirs = store.release("a", token, requeue=True, died=died).heirs
        while heirs[0].holder != "a":
            store.withdraw(heirs[0].holder, can_start_heirs=False)
            heirs = store.sweep().heirs
        deaths.append(heirs[0].deaths)

    assert deaths == [0, 1, 2]


def test_an_heir_says_whether_it_has_run_before(store):
    heir = reserved(store)
    (again,) = store.put_back("a", heir).heirs
    store.later(START + 1)
    (unused,) = store.sweep().heirs
    assert [(one.holder, one.ran) for one in (again, unused)] == [("a", False)] * 2
    for name in ("b", "c"):
        store.withdraw(name, can_start_heirs=False)

    token = store.acquire("a").token
    (returned,) = store.release("a", token, requeue=True).heirs
    store.later(3 * START)
    (later,) = store.sweep().heirs
    assert [(one.holder, one.ran) for one in (returned, later)] == [("a", True)] * 2


def test_a_task_whose_lease_has_ended_has_run(store):
    reserved(store)
    store.acquire("a")
    store.later(LEASE + 1)

    assert store.sweep().heirs[0].ran


def test_the_checker_knows_tickets_that_were_put_aside(store):
    heir = reserved(store)
    store.put_back("a", heir, pause=60)
    for name in ("b", "c"):
        store.release(name, store.acquire(name).token)

    assert store.inspect().waiting == 1
    assert store.problems() == []
