"""Parked tasks can be revoked and can expire."""

import time

import pytest
from celery import chord

from cachify_tasks._core.commands import Acquire, Release
from cachify_tasks.celery.app import runtime_of
from tests.support.waiting import wait_until
from tests.support.workers import together

DIES_ENDING_IT = """
import os, signal
from cachify_tasks._worker import ending_tasks


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


ending_tasks.HandOver = die
ending_tasks.CLAIM_MS = 3000
"""

LATE = """
import os
import threading
import time
from cachify_tasks._core.commands import Withdraw
from cachify_tasks._worker.outbox import Outbox

own = Outbox.add


def add_late(self, command):
    while os.path.exists("away"):
        time.sleep(0.01)
    own(self, command)


def add(self, command):
    if isinstance(command, Withdraw) and os.path.exists("away"):
        threading.Thread(target=add_late, args=(self, command), daemon=True).start()
    else:
        own(self, command)


Outbox.add = add
"""


def hold(shop, key, **options):
    sent = shop.send("park", key, "ok", f"{key}.go", **options)
    shop.runs.wait_begun(key)
    return sent


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_revoked_tasks_end_at_once_and_are_told_of_once(make_shop, pool):
    shop = make_shop(worker_prefetch_multiplier=16, worker_send_task_events=True)
    with together(shop.worker(name="a", pool=pool), shop.worker(name="b", pool=pool)) as (a, b):
        hold(shop, "revoked")
        parked = [shop.send("park", "revoked") for _ in range(8)]
        shop.wait_parked(8)
        member = shop.app.tasks["park_first"].si("revoked", 1)
        whole = shop.sent(chord([member, member], shop.app.tasks["total"].s()).apply_async())
        shop.wait_parked(10)

        shop.app.control.revoke(parked[1].id)
        shop.wait_state(parked[1], "REVOKED")
        shop.app.control.revoke([one.id for one in parked[2:6]])
        for one in parked[2:6]:
            shop.wait_state(one, "REVOKED")
        shop.wait_parked(5)
        shop.open("revoked.go")

        assert [parked[n].get() for n in (0, 6, 7)] == ["ok done"] * 3
        assert whole.get() == 2
        logs = a.logs() + b.logs()
        for one in parked[1:6]:
            assert logs.count(f"Discarding revoked task: park[{one.id}]") == 1
        shop.wait_quiet()


@pytest.mark.parametrize("way", ["prefork", "threads", "called"])
def test_a_task_that_expires_while_parked_is_revoked_at_its_turn(make_shop, way):
    shop = make_shop(worker_prefetch_multiplier=16, cachify_start_timeout=1)
    queue = "elsewhere" if way == "called" else "shop"
    workers = [shop.worker(pool="prefork" if way == "called" else way)]
    if way == "called":
        workers.append(shop.worker(name="else", args=["-Q", queue]))
    with together(*workers) as (home, *_):
        hold(shop, "expired", queue=queue)
        expiring = [shop.send("park", "expired", expires=2) for _ in range(3)]
        last = shop.send("park", "expired")
        shop.wait_parked(4)
        since = time.monotonic()
        wait_until(lambda: time.monotonic() - since > 2.2)
        shop.open("expired.go")

        assert last.get() == "ok done"
        for one in expiring:
            shop.wait_state(one, "REVOKED")
            assert home.logs().count(f"Discarding revoked task: park[{one.id}]") == 1
        shop.wait_quiet()
        assert len(shop.ids("expired")) == 2


def test_a_chord_ends_when_a_parked_member_is_revoked(make_shop):
    shop = make_shop(worker_prefetch_multiplier=16)
    with shop.worker():
        hold(shop, "member")
        members = [shop.app.tasks["park_first"].si("member", n).set(task_id=f"member-{n}") for n in (1, 2)]
        whole = shop.sent(chord(members, shop.app.tasks["total"].s()).apply_async())
        shop.wait_parked(2)
        shop.app.control.revoke("member-2")
        shop.wait_parked(1)
        shop.open("member.go")

        shop.wait_state(whole, "FAILURE")
        shop.wait_quiet()


def test_a_task_whose_end_has_not_reached_the_store_is_told_of_once(make_shop):
    """The outage came between. The ticket's turn comes at another worker before the first one can tell the store."""
    shop = make_shop()
    (shop.folder / "app.py").write_text((shop.folder / "app.py").read_text() + LATE)
    with together(shop.worker(name="a"), shop.worker(name="b")) as (a, b):
        hold(shop, "late")
        parked, other = (shop.send("park", "late") for _ in range(2))
        shop.wait_parked(2)
        shop.open("away")
        shop.app.control.revoke(parked.id)
        told = f"Discarding revoked task: park[{parked.id}]"
        wait_until(lambda: told in a.logs() + b.logs())

        shop.open("late.go")
        assert other.get() == "ok done"  # it went first
        aside = f"the parked task {parked.id}"
        wait_until(lambda: aside in a.logs() + b.logs())
        (shop.folder / "away").unlink()
        shop.wait_quiet()

        assert (a.logs() + b.logs()).count(told) == 1


def test_a_task_whose_revoker_was_killed_half_way_is_revoked_at_its_turn(make_shop):
    shop = make_shop()
    (shop.folder / "app.py").write_text((shop.folder / "app.py").read_text() + DIES_ENDING_IT)
    store = runtime_of(shop.app).store
    held = store.execute(
        Acquire(pool="park-half", holder="elsewhere", request_id="e", limit=1, lease_ms=300000, start_ms=10000)
    )
    with together(shop.worker(name="a"), shop.worker(name="b")) as (a, b):
        parked = shop.send("park", "half")
        shop.wait_parked(1)
        shop.app.control.revoke(parked.id)
        wait_until(lambda: (a.exit_code, b.exit_code).count(None) == 1)
        assert shop.parked() == 1

        store.execute(
            Release(
                pool="park-half", holder="elsewhere", token=held.token, request_id="e", start_ms=10000, tomb_ms=10000
            )
        )
        shop.wait_state(parked, "REVOKED")
        shop.wait_quiet()
        assert shop.ids("half") == []
