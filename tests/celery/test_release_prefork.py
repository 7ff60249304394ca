"""A slot is free again however its task ends: prefork, where the worker's main process lives on."""

from collections.abc import Iterator

import pytest

from tests.celery.conftest import Shop
from tests.support.waiting import wait_until

PROMPT_S = 10.0  # far less than the lease


@pytest.fixture(scope="module")
def shop(make_shared_shop) -> Iterator[Shop]:
    shop = make_shared_shop()
    with shop.worker(concurrency=3):
        yield shop


def run_two(shop: Shop, name: str, key: str, mode: str, **options):
    """One that ends in its way, then another one of the same pool, sent while the first one runs."""
    first = shop.send(name, key, mode, f"{key}.go", **options)
    shop.runs.wait_begun(key)
    second = shop.send(name, key)
    shop.open(f"{key}.go")
    return first, second


def assert_followed(shop: Shop, key: str, first, second) -> float:
    """The second ran; answers how long after the first one's end."""
    assert second.get() == "ok done"
    begun = [line for line in shop.runs.begun(key) if line["id"] == second.id]
    ended = [line for line in shop.runs.all(key) if line["id"] == first.id and line["event"] == "end"]
    assert len(begun) == 1
    wait_until(lambda: shop.size("one", key) == 0)
    return begun[0]["t"] - ended[-1]["t"] if ended else 0.0


ENDS = pytest.mark.parametrize(
    ("mode", "state"),
    [("ok", "SUCCESS"), ("error", "FAILURE"), ("ignore", "PENDING"), ("reject", "FAILURE"), ("retry", "SUCCESS")],
)


def assert_freed_promptly(shop: Shop, name: str, mode: str, state: str) -> None:
    """By a task that ends in this way, and is then in this state."""
    key = f"{name}-{mode}"

    first, second = run_two(shop, name, key, mode)

    assert assert_followed(shop, key, first, second) < PROMPT_S
    shop.wait_state(first, state)
    assert shop.runs.peak(key) == 1
    assert len([line for line in shop.runs.begun(key) if line["id"] == first.id]) == (2 if mode == "retry" else 1)


@ENDS
@pytest.mark.parametrize("name", ["one", "late"])
def test_a_slot_is_free_after(shop, name, mode, state):
    assert_freed_promptly(shop, name, mode, state)


def test_a_slot_is_free_after_a_reject_with_requeue_and_the_task_runs_again(shop):
    first, second = run_two(shop, "late", "requeue", "requeue")

    assert_followed(shop, "requeue", first, second)
    assert first.get() == "requeue done"
    assert shop.runs.peak("requeue") == 1
    assert [line["id"] for line in shop.runs.begun("requeue")].count(first.id) == 2


def test_a_key_that_cannot_be_sent_is_the_error_of_its_task_alone(shop):
    wrong = [shop.send("one", "\ud800"), shop.send("one", "key", shadow="\ud800")]
    right = shop.send("one", "right")

    for sent in wrong:
        with pytest.raises(ValueError, match="lone surrogate"):
            sent.get()
    assert right.get() == "ok done"


def test_a_slot_is_free_after_a_soft_time_limit(shop):
    first, second = run_two(shop, "one", "soft", "soft", soft_time_limit=1)

    assert assert_followed(shop, "soft", first, second) < PROMPT_S
    assert shop.wait_state(first, "FAILURE")
    assert shop.runs.peak("soft") == 1


def test_after_a_hard_time_limit_the_next_holder_does_not_overlap_the_killed_one(shop):
    with shop.worker(name="other", args=["-Q", "other"]):
        first = shop.send("one", "hard", "stubborn", time_limit=1)
        shop.runs.wait_begun("hard")
        others = [shop.send("hot", "hard", queue="other") for _ in range(6)]  # they ask again every few ms

        assert [other.get() for other in others] == ["ok done"] * 6
        last_tick = max(line["t"] for line in shop.runs.all() if line["id"] == first.id)
        begun = min(line["t"] for line in shop.runs.begun("hard") if line["id"] != first.id)
        assert 0 < begun - last_tick < PROMPT_S
        assert shop.wait_state(first, "FAILURE")
        wait_until(lambda: shop.size("one", "hard") == 0)


def test_a_slot_is_free_soon_after_its_process_was_killed(shop):
    gaps = []
    for turn in range(3):
        key = f"die-{turn}"
        first, second = run_two(shop, "one", key, "die")
        assert_followed(shop, key, first, second)
        killed, followed = shop.runs.begun(key)
        gaps.append(followed["t"] - killed["t"])
        assert shop.wait_state(first, "FAILURE")

    print(f"kill -9 of a child -> next holder: median {sorted(gaps)[1]:.2f} s of {gaps}")  # noqa: T201  # asked for: `pytest -rA` shows it
    assert sorted(gaps)[1] < 10


def test_the_task_of_a_killed_process_runs_again_with_acks_late_and_reject_on_worker_lost(shop):
    first = shop.send("late", "lost", "die")

    assert first.get() == "die done"
    assert [line["id"] for line in shop.runs.begun("lost")] == [first.id] * 2
    wait_until(lambda: shop.size("late", "lost") == 0)


def test_a_slot_is_free_after_revoke_with_terminate(shop):
    first = shop.send("one", "revoke", "hang")
    shop.runs.wait_begun("revoke")
    second = shop.send("one", "revoke")

    shop.app.control.revoke(first.id, terminate=True)

    assert_followed(shop, "revoke", first, second)
    assert shop.wait_state(first, "REVOKED")
    last_tick = max(line["t"] for line in shop.runs.all() if line["id"] == first.id)
    (begun,) = [line for line in shop.runs.begun("revoke") if line["id"] == second.id]
    assert last_tick < begun["t"]


def test_a_task_that_was_revoked_before_its_turn_does_not_run(shop):
    holder = shop.send("one", "before", "ok", "before.go")
    shop.runs.wait_begun("before")
    waiting = shop.send("one", "before")
    shop.wait_state(waiting, "RETRY")

    shop.obeyed("revoke", waiting.id)
    shop.open("before.go")

    assert holder.get() == "ok done"
    assert shop.wait_state(waiting, "REVOKED")
    assert len(shop.runs.begun("before")) == 1
    wait_until(lambda: shop.size("one", "before") == 0)
