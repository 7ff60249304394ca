"""Revoked tasks that are parked are ended by one worker, which knows them."""

import pytest

from cachify_tasks._core.commands import Acquire, Ticket
from cachify_tasks._core.key_commands import Claim
from cachify_tasks._worker.ending_tasks import TOGETHER, TRIES, end_revoked
from cachify_tasks._worker.endings import Revoked
from cachify_tasks._worker.port import HandOver, Refusal
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


def test_many_are_ended_in_steps_between_which_the_loop_goes_on(bench, ended):
    park(bench, "runs")
    ids = [f"t{n}" for n in range(2 * TOGETHER + 1)]
    for task in ids:
        park(bench, task)

    end_revoked(bench.runtime, bench.port, ids)

    steps = [len(ended)]
    while bench.port.later:
        seconds, go_on = bench.port.later.pop()
        assert seconds == 0
        go_on()
        steps.append(len(ended))
    assert steps == [TOGETHER, 2 * TOGETHER, len(ids)]
    assert [task for _, task in ended] == [f"{task}:0" for task in ids]


def test_only_the_pools_in_which_they_are_parked_are_asked(bench, ended):
    for number in range(50):
        park(bench, f"runs-{number}", pool=f"p{number}")
        park(bench, f"parked-{number}", pool=f"p{number}")
    before = len(bench.store.sent)

    end_revoked(bench.runtime, bench.port, ["parked-7", *(f"nowhere-{number}" for number in range(40))])

    assert ended == [("p7", "parked-7:0")]
    assert len(bench.store.sent) - before == 3  # the index, one pool, one claim


def test_nothing_is_asked_for_where_none_is_parked(bench, ended):
    end_revoked(bench.runtime, bench.port, ["t"])

    assert len(bench.store.sent) == 1


def test_it_is_tried_again_until_the_store_answers(bench, ended, caplog):
    park(bench, "runs")
    park(bench, "t")
    bench.store.down = True

    end_revoked(bench.runtime, bench.port, ["t"])
    pauses = []
    for _ in range(8):
        seconds, again = bench.port.later.pop()
        pauses.append(seconds)
        again()
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert "1 revoked tasks are looked for again in 0.5 s: the store is out of reach" in caplog.text
    bench.store.down = False
    bench.port.later.pop()[1]()

    assert ended == [("p", "t:0")]
    assert bench.port.later == []


def test_it_is_given_up_in_the_end(bench, ended, caplog):
    bench.store.down = True

    end_revoked(bench.runtime, bench.port, ["t"], tries=TRIES)

    assert bench.port.later == []
    assert "1 revoked tasks could not be looked for: the store is out of reach" in caplog.text


def test_one_that_cannot_be_ended_does_not_keep_the_others(bench, ended, monkeypatch, caplog):
    park(bench, "runs")
    for task in ("bad", "good"):
        park(bench, task)
    own = bench.port.open

    def reading(envelope: bytes) -> str:
        if envelope.startswith(b"bad"):
            raise ValueError("no envelope")
        return str(own(envelope))

    monkeypatch.setattr(bench.port, "open", reading)

    end_revoked(bench.runtime, bench.port, ["bad", "good"])

    assert ended == [("p", "good:0")]
    assert "the revoked task bad:0 of pool 'p' could not be ended: ValueError('no envelope')" in caplog.text
