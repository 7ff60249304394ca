"""Many threads at one pool; CACHIFY_CHAOS=full gives them 2,000,000 rounds."""

import os
import random
import sys
import threading
from collections.abc import Iterator

import pytest

from cachify_tasks.cachepool import CachePool, CachePoolError

THREADS = 16
ROUNDS = 2_000_000 if os.getenv("CACHIFY_CHAOS") == "full" else 400_000


class Thing:
    """Knows its users; both lists change in one step of the interpreter."""

    def __init__(self) -> None:
        self.users: list[int] = []
        self.closed: list[bool] = []


@pytest.fixture(autouse=True)
def switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def together(work, threads=THREADS):
    """Run work(number) in so many threads that begin at once; the first error is raised."""
    begin = threading.Barrier(threads)
    errors = []

    def run(number):
        begin.wait()
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001  # raised below
            errors.append(error)

    started = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    if errors:
        raise errors[0]


def storm(pool_type, rounds=ROUNDS, **options):
    """Threads that get, put and close as fast as they can; every element knows its user."""
    size, made, turns, kept = 5, [], rounds // THREADS, [0] * THREADS

    def make():
        thing = Thing()
        made.append(thing)
        return thing

    pool = pool_type(make, close_callback=lambda thing: thing.closed.append(True), pool_size=size, **options)

    def work(number):
        for turn in range(turns):
            thing = pool.get()
            thing.users.append(number)
            assert thing.users == [number], "lent twice"
            assert not thing.closed, "lent after it was closed"
            thing.users.pop()
            if turn % 50 == number:
                pool.close(thing)
            else:
                pool.put(thing)
                kept[number] += 1
            assert pool.queue.qsize() <= size, "too many are idle"

    together(work)

    idle = [thing for thing in made if not thing.closed]
    assert pool.queue.qsize() == len(idle) <= size
    assert all(len(thing.closed) <= 1 for thing in made), "closed twice"
    closed_by_users = turns * THREADS - sum(kept)
    refused = len(made) - len(idle) - closed_by_users
    assert pool.stat == {"new": len(made), "get": turns * THREADS, "put": sum(kept) - refused}
    assert pool.close_all() == len(idle)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("lifo", [False, True])
def test_nothing_is_lent_twice_lost_or_left_open(lifo):
    storm(CachePool, lifo=lifo)


@pytest.mark.timeout(300)
def test_nothing_is_lost_where_elements_are_checked_before_they_are_lent():
    storm(CachePool, ROUNDS // 4, max_idle=60, validator=lambda thing: True)


@pytest.mark.parametrize("back", ["put", "close"])
def test_of_many_threads_that_return_one_element_only_one_succeeds(back):
    pool = CachePool(Thing, close_callback=lambda thing: thing.closed.append(True))
    for _ in range(50):
        scramble(pool, back)


def scramble(pool, back):
    thing, refused = pool.get(), []

    def work(number):
        try:
            getattr(pool, back)(thing)
        except CachePoolError:
            refused.append(number)

    together(work, threads=4)

    assert len(refused) == 3
    assert pool.queue.qsize() == (back == "put")


def test_nothing_stays_open_when_the_pool_is_closed_meanwhile():
    for _ in range(30):
        made: list[Thing] = []

        def make(made=made):
            thing = Thing()
            made.append(thing)
            return thing

        pool = CachePool(make, close_callback=lambda thing: thing.closed.append(True))

        def work(number, pool=pool):
            if number == 0:
                pool.close_all()
                return
            try:
                for _ in range(300):
                    pool.put(pool.get())
            except CachePoolError:
                pass

        together(work, threads=6)

        assert [len(thing.closed) for thing in made] == [1] * len(made)
        assert pool.queue.qsize() == 0


def test_stat_can_be_read_while_elements_come_and_go():
    pool = CachePool(Thing, pool_size=2)
    read = []

    def work(number):
        for _ in range(500):
            if number == 0:
                read.append(pool.stat.copy())
            else:
                pool.put(pool.get())

    together(work, threads=8)

    assert pool.stat["get"] == 3500
    assert all(0 <= stat["new"] <= stat["get"] + 8 for stat in read)
    assert [stat["new"] for stat in read] == sorted(stat["new"] for stat in read)


def test_every_element_is_idle_closed_or_forgotten_whatever_else_is_called_meanwhile():
    made: list[None] = []
    closed: list[None] = []
    forgotten: list[None] = []

    class Element:
        def __init__(self):
            made.append(None)

    pool = CachePool(Element, close_callback=lambda element: closed.append(None), pool_size=8, max_idle=0.001)

    def work(number):
        drawn = random.Random(number)
        for _ in range(2_000):
            match drawn.randrange(100):
                case 0:
                    pool.clear()
                case 1:
                    pool.prune()
                case 2:
                    pool.get()
                    forgotten.append(None)
                case _:
                    pool.put(pool.get())

    together(work)

    assert len(made) == len(closed) + len(forgotten) + pool.queue.qsize()
    assert pool.stat["new"] == len(made)
    pool.clear()
    assert not pool._records.known
