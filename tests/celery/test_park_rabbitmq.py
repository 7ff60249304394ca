"""Parked tasks over RabbitMQ, on classic and quorum queues."""

import uuid
from functools import partial
from typing import Any

import pytest
from amqp.exceptions import ResourceLocked
from kombu import Connection, Exchange, Queue

from tests.support.waiting import wait_until
from tests.support.workers import together


def empty(channel, queue):
    return channel.queue_declare(queue, passive=True).message_count == 0


def deleted(channel, queue):
    """Not before the broker has noticed that the worker was killed whose own queue it is."""
    try:
        channel.queue_delete(queue)
    except ResourceLocked:
        return False
    return True


@pytest.fixture(params=["classic", "quorum"])
def shop(make_shop, amqp_url, broker_url, request):
    name = f"cachify-park-{uuid.uuid4().hex}"
    kind = {"x-queue-type": "quorum"} if request.param == "quorum" else {"x-max-priority": 10}
    queues = [Queue(one, Exchange(name), routing_key=one, queue_arguments=kind) for one in (name, f"{name}.other")]
    with Connection(amqp_url) as connection:
        channel: Any = connection.channel()
        for queue in queues:
            queue(channel).declare()
    quorum = {"broker_transport_options": {"confirm_publish": True}, "worker_detect_quorum_queues": True}
    made = make_shop(
        broker_url=amqp_url, backend_url=broker_url, queue=name, worker_prefetch_multiplier=8, task_queues=None,
        task_create_missing_queues=True, **(quorum if request.param == "quorum" else {}),
    )  # fmt: skip
    made.queue = name
    made.app.conf.task_queues = queues
    app_py = made.folder / "app.py"
    app_py.write_text(
        app_py.read_text()
        + "from kombu import Exchange, Queue\n"
        + f"app.conf.task_queues = [Queue(one, Exchange({name!r}), routing_key=one, queue_arguments={kind!r})"
        + f" for one in ({name!r}, {name + '.other'!r})]\n"
    )
    yield made
    with Connection(amqp_url) as connection:
        channel = connection.channel()
        for one in (name, f"{name}.other", f"{name[-12:]}@test.celery.pidbox", f"{name[-11:]}@test.celery.pidbox"):
            wait_until(partial(deleted, channel, one))
        channel.exchange_delete(name)


def test_parked_tasks_run_in_order_wherever_their_slot_comes_from(shop):
    with together(
        shop.worker(name=shop.queue[-12:], concurrency=3, args=["-Q", shop.queue]),
        shop.worker(name=shop.queue[-11:], concurrency=2, args=["-Q", f"{shop.queue}.other"]),
    ):
        options = {"queue": f"{shop.queue}.other"}
        shop.send("park", "rabbit", "ok", "rabbit.go", **options)
        shop.runs.wait_begun("rabbit")
        sent = [shop.send("park", "rabbit", headers={"mine": n}) for n in range(4)]
        shop.wait_parked(4)
        sent += [shop.send("park", "rabbit", **options) for _ in range(3)]
        shop.wait_parked(7)
        sent += [shop.send("park_late", "rabbit", "requeue" if n % 2 else "die") for n in range(2)]
        shop.wait_parked(9)
        shop.open("rabbit.go")

        assert [one.get() for one in sent] == ["ok done"] * 7 + ["die done", "requeue done"]
        assert shop.ids("rabbit")[1:8] == [one.id for one in sent[:7]]
        assert len(shop.ids("rabbit")) == 12
        shop.wait_quiet()
        with Connection(shop.app.conf.broker_url) as connection:
            channel: Any = connection.channel()
            for one in (shop.queue, f"{shop.queue}.other"):
                wait_until(partial(empty, channel, one))


def test_a_message_priority_and_an_expiration_survive(shop):
    with shop.worker(name=shop.queue[-12:], concurrency=3, args=["-Q", shop.queue]):
        shop.send("park", "prio", "ok", "prio.go", queue=shop.queue)
        shop.runs.wait_begun("prio")
        by_message = [shop.send("park_message", "prio", n, priority=n) for n in (1, 5, 9, 3)]
        shop.wait_parked(4)
        expiring = shop.send("park", "prio", expires=50)
        shop.wait_parked(5)
        shop.open("prio.go")

        assert [one.get() for one in by_message] == [1, 5, 9, 3]
        assert shop.ids("prio")[1:5] == [by_message[n].id for n in (2, 1, 3, 0)]
        assert expiring.get() == "ok done"
        shop.wait_quiet()


DEAD_TASKS = """
from kombu import Exchange, Queue

from cachify_tasks import pooled
from shop import behave, stamped

app.conf.task_queues.append(
    Queue({name!r}, Exchange({exchange!r}), routing_key={name!r}, queue_arguments={arguments!r})
)


@app.task(shared=False, bind=True, name="rejects", acks_late=True)
@pooled("rejects", max_size=1)
def rejects(self, gate):
    with stamped(self, "rejects"):
        behave(self, "reject", gate)


@app.task(shared=False, bind=True, name="publishes", acks_late=True)
@pooled("publishes", max_size=1)
def publishes(self, gate):
    with stamped(self, "publishes"):
        try:
            behave(self, "error", gate)
        except RuntimeError:
            self.signature_from_request(queue={dead!r}).apply_async()
            raise
"""


def test_a_parked_task_reaches_the_dead_letters_if_it_publishes_itself(shop):
    name, dead = f"{shop.queue}.dl", f"{shop.queue}.dead"
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    queue = Queue(name, Exchange(shop.queue), routing_key=name, queue_arguments=arguments)
    shop.app.amqp.queues.add(queue)
    app_py = shop.folder / "app.py"
    tasks = DEAD_TASKS.format(name=name, exchange=shop.queue, arguments=arguments, dead=dead)
    app_py.write_text(app_py.read_text() + tasks)

    def letters(channel):
        return [message.headers["id"] for message in iter(lambda: channel.basic_get(dead, no_ack=True), None)]

    with Connection(shop.app.conf.broker_url) as connection:
        channel: Any = connection.channel()
        channel.queue_declare(dead, durable=True, auto_delete=False)
        try:
            with shop.worker(name=shop.queue[-12:], args=["-Q", name]):
                found = {}
                for task in ("rejects", "publishes"):
                    sent = [shop.sent(shop.app.send_task(task, [f"{task}.go"], queue=name)) for _ in range(3)]
                    shop.wait_parked(2)
                    shop.open(f"{task}.go")
                    for one in sent:
                        shop.wait_state(one, "FAILURE")
                    shop.wait_quiet()
                    started_at_once = shop.ids(task)[0]
                    wait_until(lambda: channel.queue_declare(dead, passive=True).message_count > 0)
                    found[task] = [one.id for one in sent], started_at_once, letters(channel)
        finally:
            channel.queue_delete(dead)
            channel.queue_delete(name)

    _, first, dead_letters = found["rejects"]
    assert dead_letters == [first]  # the parked ones are lost to it
    ids, _, dead_letters = found["publishes"]
    assert sorted(dead_letters) == sorted(ids)
