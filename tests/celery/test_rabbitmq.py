"""The whole way over RabbitMQ."""

import uuid
from functools import partial
from typing import Any

import pytest
from kombu import Connection

from tests.celery.conftest import Shop
from tests.support.waiting import wait_until


@pytest.fixture
def queue(amqp_url):
    name = f"cachify-test-{uuid.uuid4().hex}"
    yield name
    with Connection(amqp_url) as connection:
        channel: Any = connection.channel()
        for one in (name, f"{name}.second", f"{name[-12:]}@test.celery.pidbox"):
            channel.queue_delete(one)
        for exchange in (name, f"{name}.second"):
            channel.exchange_delete(exchange)


def nobody_holds(shop: Shop, name: str, key: str) -> bool:
    return shop.size(name, key) == 0


def test_tasks_flow_over_rabbitmq(make_shop, amqp_url, broker_url, queue):
    shop = make_shop(broker_url=amqp_url, backend_url=broker_url, queue=queue)
    with shop.worker(name=queue[-12:], concurrency=3) as worker:
        sent = [shop.send("two", "rabbit", "sleep-0.03") for _ in range(20)]
        requeued = shop.send("late", "rabbit-again", "requeue")
        lost = shop.send("late", "rabbit-lost", "die")

        assert [one.get() for one in sent] == ["sleep-0.03 done"] * 20
        assert requeued.get() == "requeue done"
        assert lost.get() == "die done"
        assert shop.runs.peak("rabbit") <= 2
        assert sorted(line["id"] for line in shop.runs.begun("rabbit")) == sorted(one.id for one in sent)
        for name, key in (("two", "rabbit"), ("late", "rabbit-again"), ("late", "rabbit-lost")):
            wait_until(partial(nobody_holds, shop, name, key))
        worker.kill(15)
        assert worker.wait_ended() == 0


def test_two_tasks_under_one_id_are_told_by_their_arguments(make_shop, amqp_url, broker_url, queue):
    shop = make_shop(broker_url=amqp_url, backend_url=broker_url, queue=queue)
    with shop.worker(name=queue[-12:]):
        for gate in ("one.go", "two.go"):
            shop.send("park_late", "told", "ok", gate, task_id="fixed")
        shop.runs.wait_begun("told")
        shop.wait_parked(1)
        for gate in ("one.go", "two.go"):
            shop.open(gate)

        shop.runs.wait_begun("told", 2)
        shop.wait_quiet()
