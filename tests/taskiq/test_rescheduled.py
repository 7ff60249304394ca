"""Rescheduled tasks: the store keeps their messages until they are due."""

import asyncio

from cachify_tasks import Reschedule, pooled
from tests.taskiq.conftest import holding


async def test_one_that_is_put_off_again_before_its_sender_has_forgotten_it_is_not_lost(bench):
    @bench.broker.task("again")
    @pooled(key="p", max_size=1, on_full=Reschedule(delay=0.02, factor=1))
    async def again() -> str:
        return "ran"

    put_off = asyncio.Event()

    async def deliver_at_once(message):
        await bench.arrive(message.message)
        put_off.set()

    async with holding(bench):
        task_id = await bench.send(again)
        bench.broker.kick = deliver_at_once
        await put_off.wait()

    assert (await bench.result(task_id)).return_value == "ran"
