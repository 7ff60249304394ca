"""One round of the reaper: it heals what dead workers have left, and only where there is capacity."""

from collections.abc import Sequence

import pytest

from cachify_tasks._core.commands import Sweep
from cachify_tasks._core.key_commands import Claim, Due, Ping
from cachify_tasks._core.replies import Heir, Reply
from cachify_tasks._worker import reaper as reapers
from cachify_tasks._worker.reaper import EVERY, RARELY, SPREAD, Reaper
from cachify_tasks.errors import CachifyStoreError
from tests.support.waiting import wait_until
from tests.worker.fakes import LEASE_S, Bench


class Host:
    """The worker of a reaper."""

    def __init__(self) -> None:
        self.store_down = False
        self.has_capacity = True
        self.done: list[str] = []
        self.offered: list[tuple[str, list[str]]] = []
        self.news = False

    def take_news(self) -> bool:
        news, self.news = self.news, False
        return news

    def resume(self) -> None:
        self.done.append("resume")

    def resend(self) -> None:
        self.done.append("resend")

    def offer(self, pool: str, heirs: Sequence[Heir]) -> None:
        self.offered.append((pool, [heir.holder for heir in heirs]))


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def reaper(bench: Bench, host: Host) -> Reaper:
    return Reaper(bench.runtime, host, clock=bench.clock)


def strand(bench: Bench, pool: str = "p") -> None:
    """A worker dies with a slot, and a task is parked behind it."""
    bench.acquire_elsewhere(f"dead-{pool}:0", pool)
    bench.acquire_elsewhere(f"parked-{pool}:0", pool)


def test_a_round_starts_what_is_parked_behind_a_dead_worker_once_its_lease_is_over(bench, host, reaper):
    strand(bench)

    reaper.round()
    assert host.offered == []
    bench.clock.advance(LEASE_S + 0.001)
    reaper.round()

    assert host.offered == [("p", ["parked-p:0"])]
    assert bench.holders() == {"parked-p:0": True}


def test_every_pool_that_is_due_is_swept_and_no_other(bench, host, reaper):
    strand(bench, "one")
    strand(bench, "two")
    bench.clock.advance(LEASE_S + 0.001)
    strand(bench, "lives")

    reaper.round()

    assert sorted(pool for pool, _ in host.offered) == ["one", "two"]
    assert [command.pool for command in bench.store.sent if isinstance(command, Sweep)] == ["one", "two"]


def test_a_pool_that_another_worker_has_swept_meanwhile_is_not_offered(bench, host, reaper, monkeypatch):
    strand(bench)
    bench.clock.advance(LEASE_S + 0.001)
    execute = bench.store.execute

    def swept_meanwhile(command):
        answer = execute(command)
        if isinstance(command, Due):
            assert bench.send(Sweep(pool="p", start_ms=10_000)).heirs
        return answer

    monkeypatch.setattr(bench.store, "execute", swept_meanwhile)
    reaper.look()

    assert host.offered == []


def test_a_worker_without_capacity_leaves_the_claim_to_others(bench, host, reaper):
    strand(bench)
    bench.clock.advance(LEASE_S + 0.001)
    host.has_capacity = False

    reaper.round()

    assert bench.store.sent == []
    assert host.done == ["resend"]
    host.has_capacity = True
    reaper.round()
    assert len(host.offered) == 1


def test_of_several_workers_that_find_a_pool_due_one_sweeps_it(bench, host, reaper, monkeypatch):
    other = Reaper(bench.runtime, host, clock=bench.clock)
    strand(bench)
    bench.clock.advance(LEASE_S + 0.001)
    swept = []
    execute = bench.store.execute

    def nothing_swept(command):
        if isinstance(command, Sweep):  # so that the pool stays due
            swept.append(command)
            return Reply("swept")
        return execute(command)

    monkeypatch.setattr(bench.store, "execute", nothing_swept)

    for one in (reaper, other, reaper):
        one.round()
    assert len(swept) == 1

    bench.clock.advance(EVERY)
    other.round()
    assert len(swept) == 2


def test_while_tickets_wait_each_round_looks_and_costs_one_command(bench, host, reaper):
    strand(bench)

    for _ in range(3):
        reaper.round()

    assert bench.store.sent == [Due()] * 3


def test_while_nothing_waits_anywhere_a_round_looks_rarely(bench, host, reaper):
    looks = []
    for _ in range(12):
        reaper.round()
        looks.append(len(bench.store.sent))
        bench.clock.advance(RARELY / 5)

    assert looks == [1] * 5 + [2] * 5 + [3] * 2


def test_a_worker_that_has_parked_a_task_looks_at_once(bench, host, reaper):
    reaper.round()
    strand(bench)
    reaper.round()
    assert len(bench.store.sent) == 1

    host.news = True
    for _ in range(3):
        reaper.round()

    assert len(bench.store.sent) == 4


def test_a_round_finds_out_first_whether_the_store_is_back(bench, host, reaper):
    host.store_down = True

    reaper.round()

    assert host.done == ["resume", "resend"]
    assert isinstance(bench.store.sent[0], Ping)


def test_a_round_on_a_store_that_is_still_away_does_nothing_more(bench, host, reaper):
    host.store_down = True
    bench.store.down = True

    with pytest.raises(CachifyStoreError):
        reaper.round()

    assert host.done == []
    assert len(bench.store.sent) == 1


def test_a_round_resends_before_it_looks(bench, host, reaper, monkeypatch):
    """What this worker's dead tasks held must be free when the pools are looked at."""
    order = []
    monkeypatch.setattr(host, "resend", lambda: order.append("resend"))
    monkeypatch.setattr(reaper, "look", lambda: order.append("look"))

    reaper.round()

    assert order == ["resend", "look"]


def test_the_reaper_survives_its_store_and_its_worker(bench, host, monkeypatch, caplog):
    monkeypatch.setattr(reapers, "EVERY", 0.01)
    rounds: list[int] = []
    errors = {0: CachifyStoreError("away"), 1: ZeroDivisionError("a defect")}
    reaper = Reaper(bench.runtime, host)

    def resend() -> None:
        rounds.append(len(rounds))
        error = errors.get(rounds[-1])
        if error is not None:
            raise error

    monkeypatch.setattr(host, "resend", resend)
    reaper.start()
    try:
        wait_until(lambda: len(rounds) > 3)
    finally:
        reaper.stop()

    assert "looking for parked tasks: away" in caplog.text
    assert "looking for parked tasks failed; trying again" in caplog.text
    wait_until(lambda: not reaper._thread.is_alive())


def test_the_claim_is_over_before_the_next_round_of_any_worker(bench, reaper):
    strand(bench)
    bench.clock.advance(LEASE_S + 0.001)
    reaper.round()

    (claim,) = [command for command in bench.store.sent if isinstance(command, Claim)]
    assert EVERY * 500 < claim.ttl_ms <= EVERY * (1 - SPREAD) * 1000
