"""Two workers of one cluster, seen from outside: what `celery_setup` gives is all these tests know of it."""

import contextlib
import time
from typing import Any

import pytest
from celery.exceptions import TimeoutError  # noqa: A004  # it is no other one
from celery.result import AsyncResult
from pytest_celery import CeleryTestNode, CeleryTestSetup

from cachify_tasks import testing
from tests.support.waiting import wait_until
from tests.support.workers import ended_by_celery, open_gate

LONG_S = 60.0


def pools_told_by(setup: CeleryTestSetup, *workers: CeleryTestNode) -> dict[str, dict[str, Any]]:
    """The pools as each of these workers tells them."""
    names = [worker.hostname() for worker in workers]
    # By name: the reply of a worker that was not waited for would count as the next question's.
    replies = setup.app.control.broadcast("pools", destination=names, reply=True, limit=len(names), timeout=LONG_S)
    return {name: told for reply in replies or () for name, told in reply.items()}


def pools(setup: CeleryTestSetup) -> dict[str, Any]:
    """The pools as a worker tells them."""
    assert setup.worker_cluster is not None
    running = next(worker for worker in setup.worker_cluster if not has_exited(worker))
    return pools_told_by(setup, running)[running.hostname()]


def send_parked(setup: CeleryTestSetup, key: str, *modes: str) -> list[AsyncResult[str]]:
    """One by one: two workers that read the queue at once would park them in either order."""
    sent: list[AsyncResult[str]] = []
    for mode in modes:
        sent.append(setup.app.send_task("park_late", (key, mode)))
        wait_until(lambda: pools(setup)[f"park-{key}"]["waiting"] == len(sent), LONG_S, "the task is parked")
    return sent


def holder_first(setup: CeleryTestSetup, key: str) -> list[CeleryTestNode]:
    """Both workers; the first one's task holds the only slot."""
    assert setup.worker_cluster is not None

    def told() -> str:
        (holder,) = pools(setup)[f"park-{key}"]["holders"]
        return str(holder["task"])

    # A heir's slot is a reserved one for some milliseconds.
    task = wait_until(told, LONG_S, "the store knows where it runs")
    return sorted(setup.worker_cluster, key=lambda worker: not task.endswith(f"@{worker.hostname()}"))


def who_answers(setup: CeleryTestSetup) -> set[str]:
    """Node names; where one of the two is silent it is waited for."""
    return {name for reply in setup.app.control.ping(timeout=3, limit=2) or () for name in reply}


def wait_for_answers(setup: CeleryTestSetup, *workers: CeleryTestNode) -> None:
    """Until these answer, and no other one does."""
    names = {worker.hostname() for worker in workers}
    wait_until(lambda: who_answers(setup) == names, LONG_S, f"answers of {names}")


def has_exited(worker: CeleryTestNode) -> bool:
    worker.container.reload()
    return bool(worker.container.status == "exited")


@pytest.fixture(autouse=True)
def store_in_order(celery_broker_cluster):
    """Whatever happened to the workers, the store is sound when a test has ended."""
    yield
    testing.assert_sound(celery_broker_cluster.config()["host_urls"][0])


def test_parked_tasks_run_in_their_order_after_the_holder(celery_setup, shop_folder, runs):
    holder = celery_setup.app.send_task("park_late", ("a", "ok", "a.go"))
    runs.wait_begun("a")
    parked = send_parked(celery_setup, "a", *["ok"] * 6)
    assert [run["id"] for run in runs.begun("a")] == [holder.id]

    open_gate(shop_folder, "a.go")

    assert [result.get(timeout=LONG_S) for result in [holder, *parked]] == ["ok done"] * 7
    assert [run["id"] for run in runs.begun("a")] == [holder.id, *(result.id for result in parked)]
    assert runs.peak("a") == 1


def test_the_task_of_a_killed_worker_runs_on_the_other_one(celery_setup, shop_folder, runs):
    first = celery_setup.app.send_task("park_late", ("b", "ok", "b.go"))
    runs.wait_begun("b")
    hangs, follows = send_parked(celery_setup, "b", "hang", "ok")
    open_gate(shop_folder, "b.go")
    runs.wait_begun("b", 2)  # the one that hangs has the slot
    killed, other = holder_first(celery_setup, "b")

    killed.kill()

    assert has_exited(killed)
    assert [result.get(timeout=LONG_S) for result in (first, hangs, follows)] == ["ok done", "hang done", "ok done"]
    assert [run["id"] for run in runs.begun("b")] == [first.id, hangs.id, hangs.id, follows.id]
    other.assert_log_exists(f"[{hangs.id}] succeeded")
    assert f"[{hangs.id}] succeeded" not in killed.logs()


def test_a_killed_worker_that_was_restarted_answers_and_runs_parked_tasks(celery_setup, shop_folder, runs):
    back, other = celery_setup.worker_cluster
    back.kill()
    wait_for_answers(celery_setup, other)

    back.restart()

    wait_until(lambda: back.logs().count(f"{back.hostname()} ready.") == 2, LONG_S, "it has started again")
    wait_for_answers(celery_setup, back, other)
    other.kill("SIGTERM")
    wait_until(lambda: has_exited(other), LONG_S, "the other one has ended")
    holder = celery_setup.app.send_task("park_late", ("c", "ok", "c.go"))
    runs.wait_begun("c")
    parked = send_parked(celery_setup, "c", "ok", "ok")
    open_gate(shop_folder, "c.go")
    assert [result.get(timeout=LONG_S) for result in (holder, *parked)] == ["ok done"] * 3
    for result in (holder, *parked):
        back.assert_log_exists(f"[{result.id}] succeeded")


def test_every_worker_tells_who_holds_and_how_many_wait(celery_setup, shop_folder, runs):
    holder = celery_setup.app.send_task("park_late", ("d", "ok", "d.go"))
    runs.wait_begun("d")
    parked = send_parked(celery_setup, "d", "ok", "ok")

    assert celery_setup.ready()
    wait_for_answers(celery_setup, *celery_setup.worker_cluster)
    told = pools_told_by(celery_setup, *celery_setup.worker_cluster)

    assert set(told) == {worker.hostname() for worker in celery_setup.worker_cluster}
    for pool in (pools["park-d"] for pools in told.values()):
        assert (pool["limit"], pool["held"], pool["waiting"]) == (1, 1, 2)
        assert [held["holder"].startswith(holder.id) for held in pool["holders"]] == [True]
    open_gate(shop_folder, "d.go")
    assert [result.get(timeout=LONG_S) for result in (holder, *parked)] == ["ok done"] * 3
    wait_until(lambda: "park-d" not in pools(celery_setup), LONG_S, "nobody holds and nobody waits")


def revive(setup: CeleryTestSetup) -> None:
    """What a supervisor does with workers that Celery itself has ended."""
    for worker in filter(has_exited, setup.worker_cluster or ()):
        assert ended_by_celery(worker.logs())
        worker.restart()


def sent_until_done(setup, task, *args):
    """Its result; sent again if none comes: a worker that reconnects can lose a message in its broker's transport."""
    for _ in range(4):
        revive(setup)
        with contextlib.suppress(TimeoutError):
            return setup.app.send_task(task, args).get(timeout=LONG_S / 2)
    return None


def test_workers_go_on_after_their_broker_was_killed_with_all_it_held(celery_setup, shop_folder, runs):
    lost = celery_setup.app.send_task("park_late", ("e", "ok", "e.go"))
    runs.wait_begun("e")
    send_parked(celery_setup, "e", "ok")

    celery_setup.broker.kill()
    celery_setup.broker.restart()
    open_gate(shop_folder, "e.go")

    wait_until(lambda: lost.ready() or any(map(has_exited, celery_setup.worker_cluster)), LONG_S, "its run has ended")
    revive(celery_setup)
    ended = time.monotonic()
    assert sent_until_done(celery_setup, "park_late", "e") == "ok done"
    assert runs.peak("e", killed_at=ended) == 1
