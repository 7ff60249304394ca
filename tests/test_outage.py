"""Plain calls whose store goes away."""

import threading

import pytest

from cachify_tasks import CachifyError, current_slot, init_cachify, pooled
from cachify_tasks._runtime.instances import set_global_runtime
from tests.support.meddling import interrupting, meddled
from tests.support.waiting import wait_until


@pytest.fixture
def killed(private_server):
    """The global instance on a server, and how to kill that."""
    server = private_server()
    cachify = init_cachify(url=f"{server.url}?socket_timeout=2&socket_connect_timeout=2")
    yield server.kill
    cachify.close()
    set_global_runtime(None)


@pytest.mark.parametrize("outcome", ["result", "error"])
def test_a_store_that_dies_in_the_body_does_not_replace_its_outcome(killed, outcome, caplog):
    @pooled("p", max_size=1)
    def work():
        killed()
        if outcome == "error":
            raise ValueError("the body's own")
        return "the body's own"

    if outcome == "error":
        with pytest.raises(ValueError, match="the body's own"):
            work()
    else:
        assert work() == "the body's own"
    assert "releasing a slot of 'p': the store redis://127.0.0.1:" in caplog.text


async def test_a_store_that_dies_in_an_async_body_does_not_replace_its_outcome(killed):
    @pooled("p", max_size=1)
    async def work():
        killed()
        return "the body's own"

    assert await work() == "the body's own"


async def test_a_store_that_was_out_of_reach_does_not_replace_an_async_bodys_error():
    cachify = init_cachify(url="redis://127.0.0.1:1", on_store_error="run", is_global=False)

    @cachify.pooled("p", max_size=1)
    async def work():
        raise ValueError("the body's own")

    with pytest.raises(ValueError, match="the body's own"):
        await work()


def test_a_store_out_of_reach_raises_for_functions(killed):
    @pooled("p", max_size=1)
    def work(): ...

    killed()

    with pytest.raises(CachifyError, match=r"the store redis://127.0.0.1:\d+/0.* could not answer: ConnectionError"):
        work()


def test_a_store_out_of_reach_can_let_functions_run(caplog):
    ran = []
    cachify = init_cachify(url="redis://127.0.0.1:1", on_store_error="run", is_global=False)

    @cachify.pooled("p", max_size=1)
    def work():
        with pytest.raises(CachifyError, match="no current slot"):
            current_slot()
        ran.append(1)
        return "ran"

    assert work() == "ran"
    with cachify.pool("p", max_size=1), pytest.raises(CachifyError, match="no current slot"):
        current_slot()
    assert "acquiring a slot of 'p', running without one" in caplog.text


def test_a_store_out_of_reach_can_be_waited_for(private_server, caplog):
    server = private_server()
    cachify = init_cachify(url=f"{server.url}?socket_timeout=2", on_store_error="retry", is_global=False)
    server.kill()
    sizes = []

    def work():
        with cachify.pool("p", max_size=1):
            sizes.append(cachify.pool("p", max_size=1).size())

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: "acquiring a slot of 'p', trying again" in caplog.text)
    server.restart()
    thread.join()

    assert sizes == [1]
    assert caplog.text.count("trying again") == 1
    cachify.close()


def test_an_acquire_that_is_waited_for_can_be_interrupted(caplog):
    cachify = init_cachify(url="redis://127.0.0.1:1", on_store_error="retry", is_global=False)
    meddled(cachify, interrupting("acquire", "before", KeyboardInterrupt()))

    with pytest.raises(KeyboardInterrupt), cachify.pool("p", max_size=1):
        pass
