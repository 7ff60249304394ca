"""However a run ends, the next parked task runs soon: it is handed over, not found by the reaper."""

import pytest

NO_REAPER = "from cachify_tasks._worker import reaper\nreaper.EVERY = 3600\n"
ENDS = ["ok", "error", "retry", "ignore", "reject", "requeue"]


def held(shop, worker_task, key, mode, **options):
    """A task that holds the pool's only slot until the test opens the gate, and then ends in this way."""
    one = shop.send(worker_task, key, mode, f"{key}.go", **options)
    shop.runs.wait_begun(key)
    return one


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_the_next_task_runs_at_once_whatever_became_of_the_one_before(make_shop, pool):
    shop = make_shop(worker_prefetch_multiplier=8)
    (shop.folder / "app.py").write_text((shop.folder / "app.py").read_text() + NO_REAPER)
    with shop.worker(pool=pool):
        for task in ("park", "park_late"):
            for mode in ENDS:
                key = f"{task}-{mode}"
                first = held(shop, task, key, mode)
                second = shop.send(task, key)
                if pool != "solo":  # that parks it when it comes to it
                    shop.wait_parked(1)
                shop.open(f"{key}.go")

                assert second.get() == "ok done"
                if mode == "requeue" and task == "park_late":
                    assert first.get() == "requeue done"
        shop.wait_quiet()


def test_a_heir_ends_in_every_way_and_the_one_after_it_runs(make_shop):
    shop = make_shop(worker_prefetch_multiplier=8)
    with shop.worker():
        for task in ("park", "park_late"):
            for mode in [*ENDS, "soft", "die"]:
                key = f"{task}-{mode}"
                held(shop, task, key, "ok")
                heir = shop.send(task, key, mode, soft_time_limit=0.3 if mode == "soft" else None)
                last = shop.send(task, key)
                shop.wait_parked(2)
                shop.open(f"{key}.go")

                assert last.get() == "ok done"
                if mode in ("retry", "ok") or (task == "park_late" and mode in ("requeue", "die")):
                    assert heir.get() == f"{mode} done"
                shop.wait_quiet()
        # two more that are ended from outside
        for task in ("park", "park_late"):
            key = f"{task}-outside"
            held(shop, task, key, "ok")
            hard = shop.send(task, key, "stubborn", time_limit=0.5)
            shop.send(task, key, "stubborn")
            last = shop.send(task, key)
            shop.wait_parked(3)
            shop.open(f"{key}.go")
            shop.wait_state(hard, "FAILURE")
            terminated = shop.runs.wait_begun(key, 3)[-1]
            shop.app.control.revoke(terminated["id"], terminate=True, signal="SIGKILL")
            assert last.get() == "ok done"
            shop.wait_quiet()
