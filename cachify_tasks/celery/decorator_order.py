"""`@pooled` above `@app.task`: the task itself takes in the policy, and direct calls of it are gated too."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from celery import Celery
from celery._state import _get_active_apps, connect_on_app_finalize  # type: ignore[attr-defined]
from celery.local import PromiseProxy, Proxy

from .._core.policy import policy_of
from .app import mark, refuse_two_policies


def adopt(task: Any, decorate: Callable[[object], object]) -> object:
    """Put a policy on a task, whenever it comes to be; return the task.

    Args:
        task: a task, the promise of one (`@app.task`), or a name for one in each app (`@shared_task`).
        decorate: makes a gated function of a function.
    """
    if type(task) is PromiseProxy:
        task.__then__(lambda: _take(task._get_current_object(), decorate))
    elif type(task) is Proxy:
        _adopt_shared(object.__getattribute__(task, "_Proxy__local"), decorate)
    else:
        _take(task, decorate)
    return task


def _take(task: Any, decorate: Callable[[object], object]) -> None:
    run = task.run
    gated = decorate(_named(run))
    policies = [policy for policy in map(policy_of, (gated, run)) if policy is not None]
    if len(policies) > 1:
        task.cachify_refused = policies  # Celery swallows an error of a shared task's making: its worker raises it
        refuse_two_policies(task.name, policies)
    task.run = gated
    task.__trace__ = None
    mark(task)


def _named(run: Callable[..., object]) -> Callable[..., object]:
    if inspect.ismethod(run):  # a bound task: its own arguments are what follows `self`

        def bound(*args: object, **kwargs: object) -> object:
            return run(*args, **kwargs)

        bound.__signature__ = inspect.signature(run)  # type: ignore[attr-defined]
        bound.__name__, bound.__qualname__, bound.__module__ = run.__name__, run.__qualname__, run.__module__
        bound.__doc__ = run.__doc__
        return bound
    return run


def _adopt_shared(by_name: Callable[[], object], decorate: Callable[[object], object]) -> None:
    """A shared task is another object in each app; they come to be when the apps are finalized, in no order."""
    found = inspect.getclosurevars(by_name).nonlocals
    function, name = found["fun"], found.get("name")

    taken: WeakSet[Celery] = WeakSet()

    def take(sender: Celery, **_: object) -> None:
        if sender in taken:
            return
        taken.add(sender)
        _take(sender.tasks[name or sender.gen_task_name(function.__name__, function.__module__)], decorate)

    connect_on_app_finalize(lambda app: app.on_after_finalize.connect(take, weak=False))
    for app in _get_active_apps():
        if app.finalized:
            take(app)
