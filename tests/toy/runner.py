"""A toy task runner: a list is the broker, threads are the workers. Of `_worker` it uses `WorkerPort` and no more."""

import json
import threading
import time
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, NamedTuple

from cachify_tasks._adapters import Admission, register_probe
from cachify_tasks._worker import verdicts
from cachify_tasks._worker.attempt import Attempt, Header
from cachify_tasks._worker.limits import TaskLimit
from cachify_tasks._worker.port import DeliveryState, Refusal, Stored, next_header
from cachify_tasks._worker.reaper import Reaper
from cachify_tasks._worker.worker import Worker

RETRY = "another attempt, please"  # returned by a task
decided: ContextVar[Any] = ContextVar("toy_decided", default=(None, None))  # a policy, and what its next call does
register_probe(lambda policy: decided.get()[1] if decided.get()[0] is policy else None)


class Toy(NamedTuple):
    """The broker, whose messages are dicts, and what has become of them."""

    runtime: Any
    tasks: dict[str, Any]
    messages: list[dict[str, Any]]
    ends: dict[str, tuple[str, Any]]  # id -> state, result
    revoked: set[str]


class ToyDelivery:
    def __init__(self, toy, message):
        attempt = Attempt(message["id"], message.get("retries", 0))
        self.message = message
        self.header = Header.decode(message.get("header"), attempt)
        self.attempt = replace(attempt, handovers=self.header.handovers)
        self.state = DeliveryState(stored=Stored.of_hint(self.header.hint) if self.header.hint else None)
        self.policy = getattr(toy.tasks[message["task"]], "__cachify__", None)
        self.limit = TaskLimit.of(self.policy, toy.runtime) if self.policy else None
        self.task_name = self.label = message["task"]
        self.is_copy = message.get("is_copy", False)
        self.arguments: Any = lambda: (tuple(message["args"]), {})
        self.own_arguments: Any = self.arguments
        self.envelope = json.dumps(message).encode
        self.message_priority = int


class ToyWorker:
    """Some threads: the port of their `Worker`, and the host of its reaper. Messages are acknowledged late."""

    kind = "task/toy"
    reserves_for_itself = False
    has_capacity = property(lambda self: self.accepting and len(self.core.slots.holding()) < len(self.threads))
    store_down = property(lambda self: self.core.outage.is_on)

    def __init__(self, toy, size):
        self.toy = toy
        self.accepting, self.dead = True, False
        self.heirs: list[ToyDelivery] = []
        self.run: Any = self.heirs.append
        self.open: Any = json.loads
        self.knows: Any = lambda message: message["task"] in toy.tasks
        self.end: Any = lambda key, _, why, done: (toy.ends.update({key: ("FAILURE", ValueError(str(why)))}), done())
        self.take_over: Any = lambda delivery: None  # a message is out of the list as soon as it is delivered
        self.call_in_worker: Any = lambda call: call()
        self.call_later: Any = lambda seconds, call: threading.Timer(seconds, call).start()
        self.send: Any = lambda command, at_once: self.core.send_now(command)
        self.core: Worker[Any] = Worker(toy.runtime, self)
        self.resume, self.resend, self.offer = self.core.outage.end_pause, self.core.resend, self.core.start_heirs
        self.take_news = self.core.take_news
        self.reaper = Reaper(toy.runtime, self)
        self.threads: list[Any] = [threading.Thread(target=self.work, daemon=True) for _ in range(size)]
        for part in (*self.threads, self.reaper):
            part.start()

    def work(self):
        while self.accepting:
            with suppress(IndexError):  # there is nothing, or another thread was faster
                self.core.ask_now(self.heirs.pop(0) if self.heirs else ToyDelivery(self.toy, self.toy.messages.pop(0)))
            time.sleep(0.002)

    def execute(self, delivery, verdict):
        limit, slot, full = delivery.limit, delivery.state.slot, getattr(verdict, "full", None)
        try:
            decision, default = (limit.decide(full) if full else None), (limit.strategy if limit else None)
            decided.set((delivery.policy, Admission(self.toy.runtime, slot, full, decision, default)))
            result = self.toy.tasks[delivery.task_name](*delivery.message["args"])
            state = "RETRY" if result is RETRY else "SUCCESS"
        except Exception as error:  # noqa: BLE001  # the task's own
            state, result = "FAILURE", error
        if not self.dead:
            if state == "RETRY":
                self.toy.messages.append({**delivery.message, "retries": delivery.attempt.retries + 1})
            self.acknowledge(delivery, state, result)
            self.core.on_run_end(delivery, requeue=False)

    def acknowledge(self, delivery, *end):
        if end:
            self.toy.ends[delivery.message["id"]] = end
        if delivery.state.stored:
            self.core.on_acknowledged(delivery, early=False)

    def apply(self, delivery, verdict):
        match verdict:
            case verdicts.Done() | verdicts.Discard():
                self.acknowledge(delivery)
            case verdicts.Revoke():
                self.acknowledge(delivery, "REVOKED", None)
            case verdicts.Fail(_, text):
                self.acknowledge(delivery, "FAILURE", ValueError(text))
            case verdicts.SendLater(seconds, deferrals, visible):
                time.sleep(seconds)
                self.toy.messages.append({**delivery.message, "header": next_header(delivery, deferrals)})
                self.acknowledge(delivery, *(("RETRY", None) if visible else ()))
            case verdicts.AskAgain() if not delivery.state.stored:
                self.toy.messages.append({**delivery.message, "is_copy": True})
            case verdicts.Start() | verdicts.StartWith() | verdicts.StartWithoutSlot():
                self.execute(delivery, verdict)
        return True

    def is_revoked(self, delivery):
        if delivery.message["id"] in self.toy.revoked:
            self.acknowledge(delivery, "REVOKED", None)
        return delivery.message["id"] in self.toy.revoked

    def can_run(self, message, waiting):
        return None if self.accepting and waiting < len(self.threads) else Refusal.NO_CAPACITY

    def deliver(self, handover):
        delivery = ToyDelivery(self.toy, handover.message)
        delivery.state.stored = handover.stored()
        return None if self.is_revoked(delivery) else delivery

    def hint(self, handover):
        own, hint = ToyDelivery(self.toy, handover.message), handover.hint()
        self.toy.messages.append({**handover.message, "header": replace(own.header, hint=hint).encode(own.attempt)})

    def stop(self, *, kill=False):
        """Shut down. Or die: then nothing is reported, the leases run out, and the broker delivers messages again."""
        self.accepting = False
        self.dead = kill
        self.reaper.stop()
        self.core.handovers.pass_on(lambda delivery: not kill and self.core.give_back(delivery))
        for delivery in self.core.slots.holding() if kill else ():
            self.core.slots.abandon(delivery)
            if isinstance(delivery, ToyDelivery) and delivery.state.stored is None:
                self.toy.messages.append({**delivery.message, "is_copy": True})
