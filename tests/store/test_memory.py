"""What the store in memory does and Redis leaves to others: it calls waiters itself."""

import os
import threading

import pytest

from tests.support.stores import opened


@pytest.fixture
def memory_store():
    with opened("memory-sync") as store:
        yield store
        store.drain()


def test_a_waiter_is_notified_when_the_store_is_free_for_others(memory_store):
    answered = []

    def ask_from_another_thread(holder, token):
        thread = threading.Thread(
            target=lambda: answered.append(memory_store.wait(holder, request_id="r").token == token)
        )
        thread.start()
        thread.join(timeout=5)

    memory_store.store.listen("here", ask_from_another_thread)
    token = memory_store.plain("a").token
    memory_store.wait("w", request_id="r")

    memory_store.release("a", token, can_start_heirs=False)

    assert answered == [True]


def test_an_error_of_a_waiter_does_not_reach_the_caller_that_freed_the_slot(memory_store, caplog):
    def fail(holder, token):
        raise RuntimeError("its loop is closed")

    memory_store.store.listen("here", fail)
    memory_store.listen("there")
    tokens = [memory_store.plain(name, limit=2).token for name in "ab"]
    memory_store.wait("w", limit=2)
    memory_store.wait("x", limit=2, channel="there")

    assert memory_store.release("a", tokens[0], can_start_heirs=False).status == "released"
    assert memory_store.release("b", tokens[1], can_start_heirs=False).status == "released"
    assert [call[1] for call in memory_store.heard()] == ["x"]
    assert "its loop is closed" in caplog.text


def test_a_forked_child_notifies_no_waiter_of_its_parent(memory_store):
    memory_store.listen("here")
    token = memory_store.plain("a").token
    memory_store.wait("w")

    child = os.fork()
    if child == 0:
        memory_store.store.reset_after_fork()
        memory_store.release("a", token, can_start_heirs=False)
        os._exit(len(memory_store.heard()))

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    memory_store.release("a", token, can_start_heirs=False)
    assert len(memory_store.heard()) == 1
