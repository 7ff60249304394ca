"""Revoked tasks that are parked are ended by one worker, which knows them."""

import pytest

from cachify_tasks._core.commands import Acquire, Claim, Ticket
from cachify_tasks._worker.ending_tasks import TOGETHER, end_revoked
from cachify_tasks._worker.endings import Revoked
from cachify_tasks._worker.port import HandOver, Refusal
from cachify_tasks.errors import CachifyStoreError
from tests.worker.fakes import KIND, only


@pytest.fixture
def ended(bench, monkeypatch):
    """The holders of those that the port was asked to end."""
    found: list[tuple[str, str]] = []

    def deliver(handover: HandOver[str]) -> None:
        found.append((handover.pool, handover.message))

    monkeypatch.setattr(bench.port, "deliver", deliver)
    return found


def park(bench, task_id, *, pool="p", kind=KIND):
    holder = f"{task_id}:0"
    bench.send(
        Acquire(
            pool=pool, holder=holder, request_id=f"of {holder}", limit=1, lease_ms=30_000, start_ms=10_000,
            ticket=Ticket(kind=kind, envelope=holder.encode(), task_id=task_id),
        )
    )  # fmt: skip


def test_those_of_the_revoked_tasks_that_are_parked_end_wherever_they_are(bench, ended):
    for pool in "pq":
        park(bench, f"runs-{pool}", pool=pool)
        park(bench, f"parked-{pool}", pool=pool)
        park(bench, f"other-{pool}", pool=pool)

    end_revoked(bench.runtime, bench.port, ["parked-p", "parked-q", "runs-p", "nowhere"])

    assert sorted(ended) == [("p", "parked-p:0"), ("q", "parked-q:0")]


def test_of_the_workers_that_are_told_one_ends_a_task(bench, ended):
    park(bench, "runs")
    park(bench, "t")

    for _ in range(2):
        end_revoked(bench.runtime, bench.port, ["t"])

    assert ended == [("p", "t:0")]


def test_a_task_that_nobody_knows_ends_all_the_same(bench, ended):
    park(bench, "runs")
    park(bench, "t")
    bench.port.unknown.add("t:0")
    bench.port.refusals = {"t:0": Refusal.UNKNOWN}

    end_revoked(bench.runtime, bench.port, ["t"])

    assert bench.port.ended == [("t", "t:0", Revoked())]
    assert bench.parked() == 0


def test_a_task_of_a_queue_that_this_worker_does_not_consume_is_left_to_another(bench, ended):
    park(bench, "runs")
    park(bench, "t")
    bench.port.unknown.add("t:0")
    bench.port.refusals = {"t:0": Refusal.NOT_MINE}

    end_revoked(bench.runtime, bench.port, ["t"])

    assert ended == []
    assert only(bench, Claim) == []


def test_a_task_of_another_framework_is_left_to_its_workers(bench, ended):
    park(bench, "runs")
    park(bench, "t", kind="task/other")

    end_revoked(bench.runtime, bench.port, ["t"])

    assert ended == []
    assert only(bench, Claim) == []


def test_many_ids_are_looked_for_in_a_few_scripts(bench, ended):
    park(bench, "runs")
    park(bench, "t")
    ids = [f"x{n}" for n in range(2 * TOGETHER)] + ["t"]
    before = len(bench.store.sent)

    end_revoked(bench.runtime, bench.port, ids)

    assert ended == [("p", "t:0")]
    assert len(bench.store.sent) - before == 1 + 3 + 1  # the pools, 401 ids, one claim


def test_nothing_is_asked_for_where_no_pool_has_a_ticket(bench, ended):
    end_revoked(bench.runtime, bench.port, ["t"])

    assert len(bench.store.sent) == 1


def test_a_store_out_of_reach_is_an_error(bench, ended):
    bench.store.down = True

    with pytest.raises(CachifyStoreError):
        end_revoked(bench.runtime, bench.port, ["t"])
