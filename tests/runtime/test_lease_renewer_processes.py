"""Leases of processes that stop, die or fork, and of two event loops."""

import asyncio
import signal
import threading

import pytest

from cachify_tasks import CachifyPoolFullError, init_cachify, pool
from tests.support.programs import program, run
from tests.support.waiting import wait_until

HOLDER = """
    import sys
    from cachify_tasks import CachifyPoolFullError, LeaseLost, init_cachify, pool
    init_cachify(url=sys.argv[1], lease_ttl=1)
    with pool("p", max_size=1) as slot:
        print(slot.token)
        input()
        try:
            slot.check()
            print("held")
        except LeaseLost as error:
            print("LeaseLost", error)
    print("left")
"""


def test_a_process_that_is_stopped_past_its_lease_learns_it_and_frees_nobody_elses_slot(redis_url):
    cachify = init_cachify(url=redis_url, lease_ttl=1, is_global=False)
    with program(HOLDER, redis_url) as holder:
        token = int(holder.line())
        holder.signal(signal.SIGSTOP)
        wait_until(lambda: cachify.pool("p", 1).size() == 0, 1 + 2)

        with cachify.pool("p", max_size=1) as mine:
            holder.signal(signal.SIGCONT)
            holder.go()
            assert holder.line().startswith("LeaseLost the lease of ")
            assert holder.line() == "left"

            assert mine.token > token
            assert cachify.pool("p", 1).size() == 1
            mine.check()
    cachify.close()


def test_a_process_that_is_killed_frees_its_slot_within_its_lease_and_two_seconds(redis_url):
    cachify = init_cachify(url=redis_url, lease_ttl=1, is_global=False)
    with program(HOLDER, redis_url) as holder:
        holder.line()
        assert cachify.pool("p", 1).size() == 1

        holder.signal(signal.SIGKILL)

        wait_until(lambda: cachify.pool("p", 1).size() == 0, 1 + 2)
    cachify.close()


@pytest.mark.parametrize("where", ["memory", "redis"])
def test_a_forked_child_neither_renews_nor_frees_its_parents_slot(where, request):
    url = request.getfixturevalue("redis_url") if where == "redis" else ""
    said = run(
        """
        import os, sys, time, traceback, warnings
        from cachify_tasks import init_cachify, pool
        from cachify_tasks._runtime.lease_renewer import lease_renewer
        warnings.simplefilter("ignore")
        init_cachify(url=sys.argv[1] or None, lease_ttl=1.5)
        p = pool("p", max_size=2)
        ours, theirs = os.pipe()
        with p as slot:
            child = os.fork()
            if child == 0:
                try:
                    assert slot.inherited and not lease_renewer._slots
                    with p:
                        assert p.size() == 2 and lease_renewer._slots
                    p.__exit__(None, None, None)
                    os.write(theirs, b"left")
                    os._exit(0)
                except BaseException:
                    traceback.print_exc()
                    os._exit(1)
            os.close(theirs)
            os.read(ours, 4)
            for _ in range(200):
                assert p.size() == 1, p.size()
                time.sleep(0.01)
            slot.check()
        print(os.waitpid(child, 0)[1], p.size())
        """,
        url,
    )

    assert said == "0 0\n"


def test_the_slot_of_a_dead_parent_is_not_kept_by_its_child(redis_url):
    cachify = init_cachify(url=redis_url, lease_ttl=1, is_global=False)
    with program(
        """
        import os, sys, time, warnings
        from cachify_tasks import init_cachify, pool
        warnings.simplefilter("ignore")
        init_cachify(url=sys.argv[1], lease_ttl=1)
        with pool("p", max_size=1):
            if os.fork() == 0:
                with pool("q", max_size=1):
                    print(os.getpid())
                    sys.stdin.readline()
                os._exit(0)
            time.sleep(60)
        """,
        redis_url,
    ) as parent:
        parent.line()
        assert (cachify.pool("p", 1).size(), cachify.pool("q", 1).size()) == (1, 1)

        parent.signal(signal.SIGKILL)

        wait_until(lambda: cachify.pool("p", 1).size() == 0, 3)
        assert cachify.pool("q", 1).size() == 1
        parent.go()
        wait_until(lambda: cachify.pool("q", 1).size() == 0, 3)
    cachify.close()


def test_two_event_loops_in_two_threads_share_a_pool(cachify_on_redis):
    inside, most, lock = 0, 0, threading.Lock()

    async def work(p):
        nonlocal inside, most
        try:
            async with p:
                with lock:
                    inside += 1
                    most = max(most, inside)
                await asyncio.sleep(0.002)
                with lock:
                    inside -= 1
        except CachifyPoolFullError:
            pass

    async def main(p):
        for _ in range(10):
            await asyncio.gather(*(work(p) for _ in range(8)))

    p = pool("p", max_size=3)
    threads = [threading.Thread(target=lambda: asyncio.run(main(p))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == 3
    assert p.size() == 0
