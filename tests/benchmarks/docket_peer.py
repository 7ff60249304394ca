"""The same work on docket, whose `ConcurrencyLimit` parks as well. Its tasks are coroutines of one process."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta


async def docket_seconds(url: str, count: int, seconds: float) -> float:
    """Seconds from the start of a worker of four places that finds all tasks there, at most two of them at once."""
    from docket import ConcurrencyLimit, Docket, Worker

    ends: list[float] = []

    async def work(
        key: str,
        limit: ConcurrencyLimit = ConcurrencyLimit("key", max_concurrent=2),  # noqa: B008  # as docket has it
    ) -> None:
        await asyncio.sleep(seconds)
        ends.append(time.monotonic())

    async with Docket(name=f"bench-{time.monotonic_ns()}", url=url) as docket:
        docket.register(work)
        for _ in range(count):
            await docket.add(work)("a")
        async with Worker(
            docket, concurrency=4, minimum_check_interval=timedelta(milliseconds=5),
            scheduling_resolution=timedelta(milliseconds=5),
        ) as worker:  # fmt: skip
            began = time.monotonic()
            await worker.run_until_finished()
    if len(ends) != count:
        raise AssertionError(f"docket ran {len(ends)} of {count} tasks")
    return max(ends) - began
