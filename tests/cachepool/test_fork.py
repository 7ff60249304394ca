"""A forked child does not use the elements of its parent."""

from tests.support.programs import run

BEGIN = """
import os, sys
from cachify_tasks.cachepool import CachePool, CachePoolError, make_wrapper

closed = []
class Thing: pass
pool = CachePool(Thing, close_callback=closed.append)

def child(work):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            print("failed:", repr(error))
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)
"""


def test_a_child_makes_its_own_elements_and_closes_none_of_its_parent_s():
    printed = run(
        BEGIN
        + """
idle = pool.get()
pool.put(idle)

def work():
    print(pool.queue.qsize(), pool.stat)
    mine = pool.get()
    print(mine is idle, closed)
    pool.put(mine)
    print(pool.close_all(), closed == [mine])

child(work)
print(pool.queue.qsize(), pool.get() is idle, pool.stat, closed)
"""
    )

    assert printed.splitlines() == [
        "0 {'new': 0, 'get': 0, 'put': 0}",
        "False []",
        "1 True",
        "1 True {'new': 1, 'get': 2, 'put': 1} []",
    ]


def test_what_was_lent_when_the_process_forked_is_neither_kept_nor_closed_by_the_child():
    printed = run(
        BEGIN
        + """
first, second = pool.get(), pool.get()

def work():
    pool.put(first)
    pool.close(second)
    print(pool.queue.qsize(), closed)
    try:
        pool.put(first)
    except CachePoolError as error:
        print("is not lent out" in str(error))

child(work)
pool.put(first)
pool.close(second)
print(pool.queue.qsize(), len(closed))
"""
    )

    assert printed.splitlines() == ["0 []", "True", "1 1"]


def test_a_block_may_be_left_in_parent_and_child():
    printed = run(
        BEGIN
        + """
wrapper = make_wrapper(pool)
with wrapper() as element:
    pid = os.fork()
if pid:
    os.waitpid(pid, 0)
print("parent" if pid else "child", pool.queue.qsize(), closed, flush=True)
if pid == 0:
    os._exit(0)
"""
    )

    assert printed.splitlines() == ["child 0 []", "parent 1 []"]


def test_a_child_that_is_forked_while_the_lock_is_held_is_not_stuck():
    printed = run(
        BEGIN
        + """
import threading
held, leave = threading.Event(), threading.Event()

def hold():
    with pool._records.lock:
        held.set()
        leave.wait(10)

thread = threading.Thread(target=hold)
thread.start()
held.wait(10)
import warnings
warnings.simplefilter("ignore")  # of forking with threads
child(lambda: print(pool.put(pool.get()), pool.stat))
leave.set()
thread.join()
"""
    )

    assert printed.splitlines() == ["None {'new': 1, 'get': 1, 'put': 1}"]
