"""Tripwires: what of Taskiq's own we rely on beyond its documentation. Each names the attribute."""

import inspect
from typing import Any

from taskiq import InMemoryBroker
from taskiq.receiver import Receiver

from cachify_tasks.taskiq import CachifyReceiver
from tests.support.pages import ROOT


def test_a_receiver_reads_a_function_when_it_is_told_to_and_not_again():
    """`_prepare_task`, `task_signatures`, `task_hints`: the user's function is read in place of its wrapper."""

    def function(a: int) -> int:
        return a

    receiver = Receiver(InMemoryBroker())
    receiver._prepare_task("name", function)

    assert receiver.task_hints["name"] == {"a": int, "return": int}
    assert list(receiver.task_signatures["name"].parameters) == ["a"]
    assert "if message.task_name not in self.known_tasks:" in inspect.getsource(Receiver.run_task)


def test_a_message_takes_first_a_place_among_those_fetched_then_one_among_those_run():
    """`sem`, `sem_prefetch`: a delivery that waits for the store gives both back, and takes them in this order."""
    source: Any = inspect.getsource(Receiver)

    assert "self.sem_prefetch.acquire()" in source
    assert source.index("async def prefetcher") < source.index("async def runner")
    assert "await execution_semaphore.acquire()" in inspect.getsource(Receiver.runner)
    done = inspect.getsource(Receiver._on_callback_done)
    assert "self.sem.release()" in done
    assert "self.sem_prefetch.release()" in done


def test_an_in_memory_broker_waits_for_its_running_tasks():
    """`_running_tasks`: `wait_all` waits for heirs, too."""
    assert "list(self._running_tasks)" in inspect.getsource(InMemoryBroker.wait_all)


def test_receivers_handle_a_message_in_callback_and_listen_until_an_event():
    """`callback`, `listen`: the gate stands around them."""
    for receiver in (Receiver, CachifyReceiver):
        assert list(inspect.signature(receiver.callback).parameters) == ["self", "message", "raise_err"]
        assert list(inspect.signature(receiver.listen).parameters) == ["self", "finish_event"]
    assert "self.callback(message=message.data, raise_err=False)" in inspect.getsource(Receiver._start_callback)
    assert "self.receiver.callback(message=message.message)" in inspect.getsource(InMemoryBroker.kick)


def test_the_adapter_is_thin():
    """What an adapter for an event loop need not do by itself is in `_worker`."""
    files = list((ROOT / "cachify_tasks" / "taskiq").glob("*.py"))

    assert sum(len(file.read_text("utf-8").splitlines()) for file in files) <= 500
