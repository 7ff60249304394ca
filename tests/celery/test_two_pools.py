"""A task takes one `@pooled`: a second one is refused where the task comes to be, or when its worker starts."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
from celery import Celery, _state
from celery.app.task import Context
from celery.exceptions import ImproperlyConfigured

from cachify_tasks import pool, pooled
from cachify_tasks.celery import setup
from cachify_tasks.celery.app import _states
from cachify_tasks.celery.request import ADMISSION
from cachify_tasks.errors import CachifyInitError
from tests.support.programs import run

first, second = pooled(key="first-{n}", max_size=2), pooled(key="second-{n}", max_size=1)
STATE: Any = _state


@pytest.fixture
def app():
    app = Celery("two", broker="memory://", set_as_current=False)
    setup(app, url="memory://")
    yield app
    _states.pop(app, None)


def work(n: int) -> int:
    return n


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any) -> Any:
        return function(*args)

    return call


WAYS: dict[str, Callable[[Celery], Any]] = {
    "both below": lambda app: app.task(name="t", shared=False)(first(second(work))),
    "both below, with another decorator between": lambda app: app.task(name="t", shared=False)(
        first(logged(second(work)))
    ),
    "both above": lambda app: first(second(app.task(name="t", shared=False)(work))),
    "one above and one below": lambda app: first(app.task(name="t", shared=False)(second(work))),
    "on a task that retries by itself": lambda app: app.task(name="t", shared=False, autoretry_for=(KeyError,))(
        first(second(work))
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_second_pool_on_a_task_is_refused_and_both_keys_are_named(app, way):
    def register() -> None:
        WAYS[way](app)
        app.finalize()

    with pytest.raises(ImproperlyConfigured, match="the task t is under `pooled` twice") as refused:
        register()

    for part in ("'first-{n}'", "'second-{n}'", "with pool("):
        assert part in str(refused.value)


@pytest.mark.parametrize("task", ["first(second(work))", "first(shared_task(name='t')(second(work)))"])
def test_a_second_pool_on_a_shared_task_is_refused_too(task):
    said = run(
        f"""
        from celery import Celery, shared_task
        from celery.exceptions import ImproperlyConfigured
        from cachify_tasks import pooled
        from cachify_tasks.celery import setup
        from cachify_tasks.celery.bootsteps import limited_tasks
        first, second = pooled(key="first-{{n}}", max_size=2), pooled(key="second-{{n}}", max_size=1)

        def work(n): ...

        made = {task}
        if "shared_task" not in {task!r}:
            shared_task(name="t")(made)
        app = Celery("two", broker="memory://")
        setup(app, url="memory://")
        try:
            app.finalize()
            limited_tasks(app)  # as a worker begins
        except ImproperlyConfigured as refused:
            print(refused)
        """
    )

    assert "the task t is under `pooled` twice, with the keys 'first-{n}' and 'second-{n}'" in said


def test_one_pool_under_other_decorators_is_one(app):
    task = app.task(name="t", shared=False)(logged(first(logged(work))))
    app.finalize()

    assert task(3) == 3


def test_two_pools_on_a_plain_function_both_hold(cachify):
    gated = first(second(work))

    with pool("second-3", max_size=1):
        assert gated(3) is None
    with pool("first-3", max_size=2), pool("first-3", max_size=2):
        assert gated(3) is None
    assert gated(3) == 3


def test_a_run_whose_process_does_not_know_how_its_app_was_set_up_fails_and_says_so(app):
    task: Any = app.task(name="t", shared=False)(first(work))
    app.finalize()
    _states.pop(app)
    request = Context({"id": "some-id", ADMISSION: {"slot": ["first-3", "some-id:0", 7, "r"]}})
    app.tasks["t"].request_stack.push(request)
    STATE._task_stack.push(app.tasks["t"])

    with pytest.raises(CachifyInitError, match=r"t\[some-id\].*setup\(\) was not called for its app 'two'"):
        task.run(3)

    STATE._task_stack.pop()
