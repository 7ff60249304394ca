"""How long a freed slot stands empty when a call waits for it."""

from __future__ import annotations

import asyncio
import threading
import time

from cachify_tasks import init_cachify

from .table import Table

TURNS = 150
HOLD = 0.003  # seconds: long enough for the other one to be in the queue
GOAL = 1.2


def bench(table: Table, url: str) -> None:
    runs = {
        "threads": [_threads(url) for _ in range(5)],
        "coroutines": [asyncio.run(_coroutines(url)) for _ in range(5)],
    }
    for kind, gaps in runs.items():
        p50, p99 = (sorted(sorted(run)[int(len(run) * share)] for run in gaps)[2] for share in (0.5, 0.99))
        verdict = "met" if p50 <= GOAL else "MISSED"
        table.notes.append(
            f"Wait, two {kind} that hand one slot to and fro, from the release to the other's next line: "
            f"p50 {p50:.2f} ms, p99 {p99:.2f} ms (medians of 5 runs), goal p50 <= {GOAL} ms {verdict}"
        )


def _threads(url: str) -> list[float]:
    cachify = init_cachify(url=url, is_global=False)
    gaps: list[float] = []
    released = [0.0]

    def player() -> None:
        for _ in range(TURNS):
            held = cachify.pool("bench-wait", max_size=1).acquire(timeout=20)
            gaps.append((time.perf_counter() - released[0]) * 1000)
            time.sleep(HOLD)
            released[0] = time.perf_counter()
            held.release()

    players = [threading.Thread(target=player) for _ in range(2)]
    for one in players:
        one.start()
    for one in players:
        one.join()
    cachify.close()
    return gaps[10:-10]


async def _coroutines(url: str) -> list[float]:
    cachify = init_cachify(url=url, is_global=False)
    gaps: list[float] = []
    released = [0.0]

    async def player() -> None:
        for _ in range(TURNS):
            held = await cachify.pool("bench-wait", max_size=1).aacquire(timeout=20)
            gaps.append((time.perf_counter() - released[0]) * 1000)
            await asyncio.sleep(HOLD)
            released[0] = time.perf_counter()
            await held.arelease()

    await asyncio.gather(player(), player())
    cachify.close()
    await cachify.aclose()
    return gaps[10:-10]
