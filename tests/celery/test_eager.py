"""`task_always_eager` and `apply()`: gated where they are called."""

import pytest
from celery import chain

from cachify_tasks import CachifyPoolFullError, pool
from tests.celery.conftest import Shop


@pytest.fixture
def shop(make_client_shop) -> Shop:
    shop: Shop = make_client_shop(task_always_eager=True, task_eager_propagates=True)
    return shop


def test_an_eager_task_runs_in_a_slot(shop):
    key, holder, held = shop.app.tasks["way_below"].delay("eager", 0.0).get()

    assert (key, held) == ("way-eager", True)
    assert holder
    assert shop.size("way_below", "eager") == 0


def test_apply_is_gated(shop):
    shop.app.conf.task_always_eager = False

    assert shop.app.tasks["add"].apply((1, 2)).get() == 3


def test_a_full_pool_with_reschedule_says_why_it_cannot_be_rescheduled(shop):
    with pool("add", max_size=1), pytest.raises(CachifyPoolFullError, match="only by a worker"):
        shop.app.tasks["add"].delay(1, 2)


def test_a_task_without_on_full_takes_the_default_of_tasks_when_eager(shop):
    with pool("busy", max_size=1), pytest.raises(CachifyPoolFullError, match="only by a worker"):
        shop.app.tasks["defaulted"].delay(1)


@pytest.mark.parametrize(
    ("name", "result"), [("drops", None), ("drops_with", 7), ("none", None), ("gives_up_7", None), ("falls_back", -1)]
)
def test_strategies_answer_when_eager(shop, name, result):
    with pool("busy", max_size=1):
        if name == "gives_up_7":
            with pytest.raises(CachifyPoolFullError):
                shop.app.tasks[name].delay(1)
        else:
            assert shop.app.tasks[name].delay(1).get() == result


def test_a_callable_gets_the_arguments_of_the_call_when_eager(shop):
    with pool("busy", max_size=1):
        args, kwargs, _ = shop.app.tasks["calls"].delay(1, b=2).get()

    assert (args, kwargs) == ([1], {"b": 2})


def test_raise_on_full_wins_when_eager(shop):
    with pool("busy", max_size=1), pytest.raises(CachifyPoolFullError):
        shop.app.tasks["strict"].delay(1)


def test_an_eager_chain_takes_one_slot_at_a_time(shop):
    add = shop.app.tasks["add"]

    assert chain(add.s(1, 2), add.s(3), add.s(4)).apply().get() == 10
    assert shop.size("add", 0, 0) == 0


def test_an_eager_retry_takes_a_slot_again(shop):
    shop.app.conf.task_eager_propagates = False

    assert shop.app.tasks["flaky"].apply((2,)).get() == 2
    assert shop.size("flaky", 0) == 0


def test_a_direct_call_of_a_task_that_drops_answers_as_a_function(shop):
    with pool("busy", max_size=1):
        assert shop.app.tasks["drops"](1) is None
        assert shop.app.tasks["defaulted"](1) is None
        assert shop.app.tasks["drops_with"](1) == 7
