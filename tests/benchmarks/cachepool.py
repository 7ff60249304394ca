"""CachePool against a queue of the standard library and against SQLAlchemy's pool of connections for threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import LifoQueue
from typing import Any

from sqlalchemy.pool import QueuePool

from cachify_tasks.cachepool import CachePool

from .table import Table, paired

ROUNDS = 80_000  # of all threads together
ELEMENTS = 8
GOAL = 5


class Element:
    """Something to be lent; QueuePool calls `close` in the end."""

    def close(self) -> None:
        pass


Use = Callable[[int], None]  # get and put so many times


def ours(**options: Any) -> Use:
    pool = CachePool(Element, pool_size=ELEMENTS, **options)
    for element in [pool.get() for _ in range(ELEMENTS)]:
        pool.put(element)

    def use(rounds: int) -> None:
        for _ in range(rounds):
            pool.put(pool.get())

    return use


def lifo_queue() -> Use:
    queue: LifoQueue[Element] = LifoQueue(ELEMENTS)
    for _ in range(ELEMENTS):
        queue.put(Element())

    def use(rounds: int) -> None:
        for _ in range(rounds):
            queue.put(queue.get())

    return use


def sqlalchemy() -> Use:
    creator: Any = Element
    pool = QueuePool(creator, pool_size=ELEMENTS, max_overflow=0, reset_on_return=None)

    def use(rounds: int) -> None:
        for _ in range(rounds):
            pool.connect().close()

    return use


def nanoseconds(use: Use, threads: int, rounds: int) -> Callable[[], float]:
    """What one get and put costs, by the wall clock."""

    def run() -> float:
        begin = threading.Barrier(threads + 1)

        def work() -> None:
            begin.wait()
            use(rounds // threads)

        started = [threading.Thread(target=work) for _ in range(threads)]
        for thread in started:
            thread.start()
        began = time.perf_counter()
        begin.wait()
        for thread in started:
            thread.join()
        return (time.perf_counter() - began) / rounds * 1e9

    return run


def bench(table: Table, url: str) -> None:
    for threads in (1, ELEMENTS):
        users = "one thread" if threads == 1 else f"{threads} threads"
        mine = nanoseconds(ours(), threads, ROUNDS)
        for name, use, rounds, goal in (
            ("queue.LifoQueue", lifo_queue(), ROUNDS, GOAL),
            ("SQLAlchemy QueuePool", sqlalchemy(), ROUNDS // 4, None),
        ):
            what = f"{name} / CachePool, get + put, {users}"
            theirs = nanoseconds(use, threads, rounds)
            table.add(paired(what, mine, theirs, unit="ns", goal=goal, better="high", upside_down=True, pairs=15))
