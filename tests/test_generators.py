"""Generators in a pool."""

import asyncio
from typing import Any

import pytest

from cachify_tasks import CachifyError, CachifyPoolFullError, current_slot, pool, pooled


def test_a_generator_holds_its_slot_until_it_is_exhausted(cachify):
    @pooled("p", max_size=1)
    def numbers(n):
        yield from range(n)
        return "the end"

    def consumer():
        return (yield from numbers(2))

    items = numbers(2)
    assert numbers.size(2) == 0
    assert next(items) == 0
    assert numbers.size(2) == 1
    assert list(items) == [1]
    assert numbers.size(2) == 0

    consuming = consumer()
    assert [next(consuming), next(consuming)] == [0, 1]
    with pytest.raises(StopIteration) as stop:
        next(consuming)
    assert stop.value.value == "the end"


def test_a_generator_holds_its_slot_until_it_is_closed(cachify):
    seen = []

    @pooled("p", max_size=1)
    def numbers():
        try:
            yield 1
        finally:
            seen.append(pool("p", max_size=1).size())

    items = numbers()
    next(items)
    items.close()

    assert seen == [1]
    assert numbers.size() == 0


def test_a_generator_takes_what_is_sent_and_thrown_into_it(cachify):
    @pooled("p", max_size=1)
    def echo():
        got = yield "ready"
        while True:
            try:
                got = yield got
            except ValueError as error:
                got = error.args[0]

    items = echo()
    assert next(items) == "ready"
    assert items.send(1) == 1
    assert items.throw(ValueError("thrown")) == "thrown"
    items.close()
    assert echo.size() == 0


def test_a_generators_slot_is_current_in_its_own_steps_alone(cachify):
    @pooled("p", max_size=1)
    def keys():
        while True:
            yield current_slot().key

    items = keys()
    with pool("q", max_size=1) as mine:
        assert next(items) == "p"
        assert current_slot() is mine
        items.close()
        assert current_slot() is mine


def test_a_full_pool_raises_at_a_generators_first_item(cachify):
    @pooled("p", max_size=1)
    def numbers():
        yield 1

    items = numbers()
    with pool("p", max_size=1), pytest.raises(CachifyPoolFullError):
        next(items)


async def test_an_async_generator_holds_its_slot_until_it_is_exhausted_or_closed(cachify):
    @pooled("p", max_size=1)
    async def echo(n):
        got = None
        for number in range(n):
            await asyncio.sleep(0)
            try:
                got = yield number, got, current_slot().key
            except ValueError as error:
                got = error.args[0]

    assert [item async for item in echo(2)] == [(0, None, "p"), (1, None, "p")]
    assert await echo.size(2) == 0

    items = echo(9)
    assert await anext(items) == (0, None, "p")
    assert await items.asend("sent") == (1, "sent", "p")
    assert await items.athrow(ValueError("thrown")) == (2, "thrown", "p")
    assert await echo.size(9) == 1
    with pytest.raises(CachifyError):
        current_slot()
    await items.aclose()
    assert await echo.size(9) == 0


def test_an_async_generator_that_is_left_lying_holds_its_slot_until_it_has_cleaned_up(cachify, caplog):
    @pooled("p", max_size=1)
    async def numbers():
        try:
            yield 1
        finally:
            await asyncio.sleep(0.01)
            cleaned.append(pool("p", max_size=1).size())

    async def main():
        kept.append(numbers())
        await anext(kept[0])

    kept: list[Any] = []
    cleaned: list[int] = []

    asyncio.run(main())

    assert cleaned == [1]
    assert pool("p", max_size=1).size() == 0
    assert not caplog.records
