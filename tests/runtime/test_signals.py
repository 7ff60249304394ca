"""What a signal raises in the middle of anything leaves no slot behind."""

import dataclasses
import random
import signal
import timeit

import pytest

from cachify_tasks import pool, pooled
from cachify_tasks._core.flows import acquire, release
from cachify_tasks._runtime.direct_calls import acquire_command
from cachify_tasks._runtime.lease_renewer import lease_renewer
from cachify_tasks._runtime.slot import Slot, current
from tests.support.meddling import Struck, interrupting, meddled, struck_by_signals
from tests.support.programs import run


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Struck(), SystemExit(1), ValueError("a soft time limit")])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("script", ["acquire", "release"])
@pytest.mark.parametrize("form", ["with", "decorator", "generator"])
def test_a_signal_in_the_middle_of_a_command_leaves_no_slot(cachify, form, script, moment, error):
    meddled(cachify, interrupting(script, moment, error))
    p = pool("p", max_size=1)

    @pooled("p", max_size=1)
    def function():
        return p.size()

    @pooled("p", max_size=1)
    def generator():
        yield p.size()

    def use():
        if form == "with":
            with p:
                p.size()
        elif form == "decorator":
            function()
        else:
            list(generator())

    with pytest.raises(type(error)) as caught:
        use()

    assert caught.value is error
    assert p.size() == 0
    assert p._entries.by_who == {}
    use()
    assert p.size() == 0


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_arrival_that_was_struck_bars_no_later_copy_of_its_message(cachify, moment):
    runtime = cachify._runtime
    meddled(cachify, interrupting("acquire", moment, Struck()))
    first = acquire_command(runtime, pool="p", limit=1, slot_exp_ms=None)
    first = dataclasses.replace(first, holder="task", first_delivery=False)

    with pytest.raises(Struck):
        runtime.run(acquire(runtime.keeper, first))

    slot = runtime.run(acquire(runtime.keeper, dataclasses.replace(first, request_id="redelivered")))
    assert isinstance(slot, Slot)
    assert slot.holder == "task"
    runtime.run(release(runtime.keeper, slot))


def test_a_signal_in_a_release_lets_the_bodys_result_be_lost_and_its_slot_be_free_once(cachify, caplog):
    meddled(cachify, interrupting("release", "after", Struck()))
    p = pool("p", max_size=2)
    with p:
        with pytest.raises(Struck), p:
            assert p.size() == 2

        assert p.size() == 1

    assert "lost" not in caplog.text


@struck_by_signals
@pytest.mark.parametrize("rounds", [1500])
@pytest.mark.parametrize("form", ["decorator", "with"])
def test_signals_at_random_moments_leave_no_slot(cachify, rounds, form):
    dice, armed, struck = random.Random(9), [False], 0
    p = pool("p", max_size=1000)

    def handle(*_):
        if armed[0]:
            armed[0] = False
            raise Struck

    @pooled("p", max_size=1000)
    def pooled_work():
        return None

    def work_in_pool():
        with p:
            pass

    work = pooled_work if form == "decorator" else work_in_pool
    for _ in range(50):
        work()
    one = min(timeit.repeat(work, number=5, repeat=10)) / 5  # of the times that nothing else ran
    before = signal.signal(signal.SIGALRM, handle)
    try:
        for _ in range(rounds):
            try:
                armed[0] = True
                signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-6, 1.2 * one))
                work()
                armed[0] = False
            except Struck:
                struck += 1
    finally:
        armed[0] = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert struck > rounds / 10
    if form == "decorator":
        assert p.size() == 0
    else:  # Python itself calls __exit__: what strikes as that begins, nobody can catch
        assert p.size() == sum(map(len, p._entries.by_who.values()))  # no slot that its block does not know of
        assert p.size() < rounds / 5
        while p._entries.by_who:
            p.__exit__(None, None, None)
        current.set(None)
        assert p.size() == 0


def test_a_signal_while_a_command_is_packed_does_not_crash_the_process():
    """hiredis crashes where it turns a number into text and a signal's handler raises."""
    said = run(
        """
        import random, signal, time
        from cachify_tasks._store.scripts import packed

        class Struck(Exception):
            pass

        def handle(*_):
            raise Struck

        signal.signal(signal.SIGALRM, handle)
        command, struck = ("EVALSHA", "0" * 40, 7, *["key"] * 7, "", *range(1000, 1020)), 0
        while struck < 20_000:
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 2e-5))
                for _ in range(5):
                    packed(command)
                time.sleep(0.001)
            except Struck:
                struck += 1
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        print("alive")
        """
    )

    assert said.split() == ["alive"]


def test_a_thread_that_cannot_be_started_for_the_lease_renewer_leaves_no_slot(cachify, monkeypatch):
    lease_renewer.stop()

    def cannot(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("threading.Thread.start", cannot)
        with pytest.raises(RuntimeError, match="can't start new thread"), pool("p", max_size=1):
            pass

    with pool("p", max_size=1) as slot:
        assert lease_renewer._thread is not None
        assert lease_renewer._thread.is_alive()
        slot.check()
