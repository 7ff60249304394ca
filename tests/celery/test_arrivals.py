"""What a full pool drops is dropped when it arrives, also while every process of its worker is busy."""

import pytest

from tests.support.workers import write_app

RETRIES = """
from cachify_tasks import CachifyPoolFullError, Raise, pooled


@app.task(name="retries", autoretry_for=(CachifyPoolFullError,), retry_backoff=False, default_retry_delay=0)
@pooled(key="busy", max_size=1, on_full=Raise())
def retries(value):
    return value


class Handling(app.Task):
    def on_failure(self, *args):
        stamp("handled", self, "handled")


@app.task(name="handles", base=Handling)
@pooled(key="busy", max_size=1, on_full=Raise())
def handles(value):
    return value
"""


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_busy_worker_drops_what_has_no_place_at_once(make_shop, pool):
    shop = make_shop(worker_prefetch_multiplier=20)
    with shop.worker(pool=pool, concurrency=1):
        blocking = shop.send("plain", "blocking", "ok", "go")
        shop.runs.wait_begun("blocking")
        first = shop.send("drops", 1)
        others = [shop.send("drops", n) for n in range(2, 8)]
        later = shop.send("drops", 8, countdown=0.2)
        raises = shop.send("raises", 9)
        few = [shop.send("park_few_drop", "few", n) for n in range(3)]

        assert {shop.wait_state(one, "REVOKED") for one in [*others, later, few[2]]} == {"REVOKED"}
        shop.wait_state(raises, "FAILURE")
        with pytest.raises(Exception, match="pool 'busy' is full: 1 of 1"):
            raises.get()
        assert {one.state for one in [blocking, first, *few[:2]]} == {"PENDING"}
        shop.open("go")

        assert [one.get() for one in (first, *few[:2])] == [1, 0, 1]
    assert shop.ids("few") == [one.id for one in few[:2]]


def test_a_busy_worker_of_greenlets_drops_what_has_no_place_at_once(make_shop):
    """It takes no further message while one waits for a greenlet; but none waits that is dropped."""
    pytest.importorskip("gevent")
    shop = make_shop(worker_prefetch_multiplier=20)
    with shop.worker(pool="gevent", concurrency=1):
        running = shop.send("busy", "go")
        shop.runs.wait_begun("busy")
        others = [shop.send("drops", n) for n in range(6)]
        raises = shop.send("raises", 9)

        assert {shop.wait_state(one, "REVOKED") for one in others} == {"REVOKED"}
        shop.wait_state(raises, "FAILURE")
        assert running.state == "PENDING"
        shop.open("go")

        assert running.get() == "ok done"


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_task_that_handles_its_failure_fails_where_it_would_run(make_shop, pool):
    shop = make_shop(worker_prefetch_multiplier=20)
    write_app(shop.folder, **shop.options)
    app = shop.folder / "app.py"
    app.write_text(app.read_text() + RETRIES)
    with shop.worker(pool=pool, concurrency=1):
        blocking = shop.send("plain", "blocking", "ok", "go")
        shop.runs.wait_begun("blocking")
        first = shop.send("busy", "first.go")
        retries, handles = (shop.sent(shop.app.send_task(name, args=[5])) for name in ("retries", "handles"))
        shop.wait_state(shop.send("drops", 1), "REVOKED")  # it came after them

        assert {one.state for one in (retries, handles)} == {"PENDING"}
        shop.open("first.go")
        shop.open("go")
        assert [one.get() for one in (blocking, first, retries, handles)] == ["ok done", "ok done", 5, 5]
