"""Eight processes on one pool of three, for CACHIFY_HAMMER_SECONDS (4): never four inside, hardly ever two."""

import json
import os
from contextlib import ExitStack

from cachify_tasks import init_cachify
from tests.support.leaks import keys_without_ttl
from tests.support.programs import program

SECONDS = float(os.getenv("CACHIFY_HAMMER_SECONDS", "4"))
PROCESSES, SIZE = 8, 3
HAMMER = """
    import asyncio, json, random, sys, time
    from cachify_tasks import CachifyPoolFullError, init_cachify, pool
    url, seconds, number = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    init_cachify(url=url)
    p, dice, stamps = pool("p", max_size=3), random.Random(number), []
    WORK, AGAIN = [0.002, 0.01, 0.04, 0.08], 0.001

    def hammer():
        while time.monotonic() < until:
            try:
                with p:
                    came = time.monotonic_ns()
                    time.sleep(dice.choice(WORK))
                    stamps.append((came, time.monotonic_ns()))
            except CachifyPoolFullError:
                time.sleep(AGAIN)

    async def ahammer():
        while time.monotonic() < until:
            try:
                async with p:
                    came = time.monotonic_ns()
                    await asyncio.sleep(dice.choice(WORK))
                    stamps.append((came, time.monotonic_ns()))
            except CachifyPoolFullError:
                await asyncio.sleep(AGAIN)

    p.size()
    print("ready")
    input()
    until = time.monotonic() + seconds
    asyncio.run(ahammer()) if number % 2 else hammer()
    print(json.dumps(stamps))
"""


def occupancy(stamps: list[tuple[int, int]]) -> tuple[int, float]:
    """The most that were inside at once, and how many were on average between the first 5 % and the last."""
    begin, end = min(came for came, _ in stamps), max(left for _, left in stamps)
    begin, end = begin + (end - begin) // 20, end - (end - begin) // 20
    events = sorted([(came, 1) for came, _ in stamps] + [(left, -1) for _, left in stamps])
    inside = most = 0
    for _, step in events:
        inside += step
        most = max(most, inside)
    busy = sum(max(0, min(left, end) - max(came, begin)) for came, left in stamps)
    return most, busy / (end - begin)


def test_eight_processes_never_put_four_into_a_pool_of_three_and_keep_it_busy(redis_url):
    cachify = init_cachify(url=redis_url, is_global=False)
    with ExitStack() as stack:
        hammers = [
            stack.enter_context(program(HAMMER, redis_url, str(SECONDS), str(number))) for number in range(PROCESSES)
        ]
        for hammer in hammers:
            assert hammer.line() == "ready"
        for hammer in hammers:
            hammer.go()
        each = [[(came, left) for came, left in json.loads(hammer.line())] for hammer in hammers]

    most, mean = occupancy([stamp for stamps in each for stamp in stamps])
    print(f"{PROCESSES} processes on {SIZE} slots for {SECONDS:g} s: at most {most} inside, {mean:.2f} on average")  # noqa: T201
    assert most == SIZE
    assert mean > 2  # about 2.9 on a machine that does nothing else
    assert all(len(stamps) > 5 for stamps in each)
    assert cachify.pool("p", SIZE).size() == 0
    assert keys_without_ttl(redis_url) == []
    cachify.close()


def test_occupancy_is_counted_from_stamps():
    most, mean = occupancy([(0, 100), (0, 50), (50, 100), (99, 100)])

    assert most == 3
    assert 1.9 < mean < 2.1
