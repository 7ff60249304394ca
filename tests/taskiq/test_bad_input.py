"""What cannot be used is refused by a clear error, as early as it can be known, and loses no message."""

import pytest
import redis.asyncio
from taskiq import InMemoryBroker
from taskiq_redis import ListQueueBroker, RedisStreamSentinelBroker

from cachify_tasks import CachifyInitError, CachifySettingError, Wait, pooled
from cachify_tasks._runtime.instances import set_global_runtime
from cachify_tasks.settings import UNSET
from cachify_tasks.taskiq import CachifyMiddleware
from tests.taskiq.conftest import Bench, HandBroker


def test_an_unknown_setting_and_a_url_that_cannot_be_used_are_refused_at_once():
    with pytest.raises(CachifySettingError, match="unknown setting 'lease'; valid settings are: url"):
        CachifyMiddleware(lease=3)
    with pytest.raises(ValueError, match="url"):
        CachifyMiddleware(url="http://localhost")


def test_a_broker_has_one_of_ours_and_it_has_one_broker():
    ours = CachifyMiddleware(url="memory://")
    broker = InMemoryBroker().with_middlewares(ours)

    with pytest.raises(CachifyInitError, match="has a CachifyMiddleware already"):
        broker.add_middlewares(CachifyMiddleware(url="memory://"))
    with pytest.raises(CachifyInitError, match="make one for each broker"):
        InMemoryBroker().add_middlewares(ours)


def test_a_broker_that_is_not_one_plain_redis_needs_a_url(monkeypatch):
    monkeypatch.delenv("CACHIFY_URL", raising=False)
    for broker in (HandBroker(), RedisStreamSentinelBroker([("localhost", 1)], "main")):
        broker.add_middlewares(CachifyMiddleware())
        with pytest.raises(CachifyInitError, match=r"give CachifyMiddleware\(url=...\)"):
            _ = broker.middlewares[0].runtime  # type: ignore[attr-defined]


async def test_the_url_is_the_brokers_or_that_of_the_environment(redis_url, monkeypatch):
    monkeypatch.delenv("CACHIFY_URL", raising=False)
    broker = ListQueueBroker(redis_url).with_middlewares(CachifyMiddleware())
    found = broker.middlewares[0].runtime.store  # type: ignore[attr-defined]
    assert found.shown == redis_url
    monkeypatch.setenv("CACHIFY_URL", "redis://elsewhere:1/2")
    other = HandBroker().with_middlewares(CachifyMiddleware()).middlewares[0].runtime  # type: ignore[attr-defined]

    assert other.store.shown == "redis://elsewhere:1/2"
    await broker.shutdown()


@pytest.mark.parametrize("is_default", [False, True], ids=["a task", "the default"])
async def test_a_task_may_not_wait(is_default):
    bench = Bench(default_on_full=Wait()) if is_default else Bench()

    @bench.broker.task("waits")
    @pooled(key="p", max_size=1, on_full=UNSET if is_default else Wait())
    async def waits() -> None: ...

    await waits.kiq()
    with pytest.raises(CachifyInitError, match=r"is Wait\(\), which is for functions.*Give Park\(\)"):
        await bench.arrive()

    assert bench.acked == []
    await bench.close()


@pytest.mark.parametrize("above", [True, False], ids=["above the task", "below it"])
async def test_a_task_under_pooled_twice_is_refused_with_both_keys(bench, above):
    message = "the task two is under `pooled` twice, with the keys 'a' and 'b'"

    async def two() -> None: ...

    if above:
        with pytest.raises(CachifyInitError, match=message):
            pooled("a", 1)(bench.broker.task("two")(pooled("b", 1)(two)))
    else:
        task = bench.broker.task("two")(pooled("a", 1)(pooled("b", 1)(two)))
        await task.kiq()
        with pytest.raises(CachifyInitError, match=message):
            await bench.arrive()


def test_a_key_that_names_no_argument_is_refused_when_it_is_decorated(bench):
    with pytest.raises(ValueError, match="do not match function signature"):

        @pooled(key="{nobody}", max_size=1)
        @bench.broker.task("nobody")
        async def nobody() -> None: ...


async def test_a_store_that_refuses_the_worker_ends_it_and_one_that_is_away_does_not(redis_url, caplog):
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.config_set("requirepass", "secret")
        try:
            refused = Bench(url=redis_url)
            with pytest.raises(CachifyInitError, match="url: "):
                _ = refused.gate
        finally:
            async with redis.asyncio.Redis.from_url(redis_url, password="secret") as allowed:
                await allowed.config_set("requirepass", "")
        refused.executor.shutdown()
        set_global_runtime(None)
    away = Bench(url="redis://127.0.0.1:1/0")

    assert away.gate.accepting

    assert "until it answers, tasks with a pool wait" in caplog.text
    await away.close()
