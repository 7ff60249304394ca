"""Whatever the scripts do, the checker finds nothing: not between any two of them, and not while others go on."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from cachify_tasks import Cachify, CachifyPoolFullError, pool, testing
from cachify_tasks._runtime.runtime import Runtime
from cachify_tasks._store.redis_store import RedisStore
from cachify_tasks.settings import Settings
from tests.support.stores import Store, opened


@pytest.mark.parametrize("kind", ["memory-sync", "redis-sync"])
@pytest.mark.parametrize("seed", range(10))
def test_no_script_breaks_an_invariant(kind, seed, redis_url):
    """Random commands, with crashes and stalls; the limit is never lowered."""
    dice, tokens = Random(seed), dict[str, int]()
    with opened(kind, redis_url) as store:
        cachify = Cachify(Runtime(store.store, Settings(prefix="t")))
        for step in range(120):
            holder = dice.choice("abcdefgh")
            match dice.randrange(10):
                case 0 | 1 | 2 | 3:
                    tokens[holder] = store.acquire(holder, 2 + step // 40, can_start_heirs=dice.random() < 0.5).token
                case 4 | 5:
                    store.release(holder, tokens.get(holder, 1), requeue=dice.random() < 0.3, tomb_ms=1000)
                case 6:
                    store.renew(holder, tokens.get(holder, 1), started=dice.random() < 0.3)
                case 7:
                    store.withdraw(holder, can_start_heirs=dice.random() < 0.5)
                case 8:
                    store.sweep()
                case 9:
                    store.later(dice.choice([0.5, 8, 15, 31]))

            assert testing.check(cachify) == [], f"after step {step}"
        store.drain()


def test_a_holder_that_came_beside_an_heir_is_in_the_index_when_the_last_ticket_goes(redis_url):
    with opened("redis-sync", redis_url) as store:
        first = store.acquire("first", 1)
        store.acquire("heir", 1)
        store.release("first", first.token, can_start_heirs=False)  # by who cannot start it: no slot is taken any more
        (heir,) = store.sweep().heirs
        store.plain("newcomer", 2)
        store.acquire("heir", 2)
        store.release("heir", heir.token)

        assert store.pools() == ["tenant-a"]


def test_a_live_system_gives_no_false_alarm(cachify_on_redis, redis_url):
    """Calls that enter and leave a pool, tasks that park and are handed over, and the checker beside them."""
    until, over = time.monotonic() + 2, threading.Event()

    def calls() -> None:
        while not over.is_set():
            try:
                with pool("calls", max_size=2):
                    continue
            except CachifyPoolFullError:
                continue

    def tasks(name: str) -> None:
        store, count = Store(RedisStore("PYC-", redis_url)), 0
        while not over.is_set():
            count += 1
            todo = [f"{name}{count}"]
            while todo:
                holder = todo.pop()
                reply = store.acquire(holder, 2, pool="tasks")
                todo += [heir.holder for heir in reply.heirs]
                if reply.status == "granted":
                    todo += [heir.holder for heir in store.release(holder, reply.token, pool="tasks").heirs]
        store.close()

    looks = 0
    with ThreadPoolExecutor() as threads:
        work = [threads.submit(calls) for _ in range(2)] + [threads.submit(tasks, name) for name in "xyz"]
        try:
            while time.monotonic() < until or looks <= 5:
                testing.assert_sound(redis_url)
                looks += 1
        finally:
            over.set()
        for thread in work:
            thread.result()

    testing.assert_sound(settled=True)
