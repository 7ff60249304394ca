"""What `setup` has made of each app: its settings, its engine, the policies of its tasks. Nothing here connects."""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, NoReturn
from weakref import WeakKeyDictionary, ref

from celery import Celery
from celery.app import base
from celery.exceptions import ImproperlyConfigured

from .._adapters import App, same_store
from .._core.policy import Policy, policies_of, policy_of, why_not_two
from .._redis.clients import SCHEMES, check_url
from .._runtime.instances import chosen_runtime
from .._runtime.instances import join_global as join
from .._runtime.runtime import Runtime
from .._runtime.wrappers import size_of
from ..errors import CachifyInitError
from ..instance import make_runtime
from ..settings import Settings, hide_password

PREFIX: Final = "cachify_"
ENVIRONMENT: Final = "CACHIFY_URL"
_CERT_REQS: Final = re.compile(r"\bssl_cert_reqs=CERT_(NONE|OPTIONAL|REQUIRED)\b")  # as Celery writes it, not redis-py
_states: WeakKeyDictionary[Celery, AppState] = WeakKeyDictionary()


class AppState:
    """What `setup` remembers of one app. Settings are read when they are first needed, so order does not matter."""

    def __init__(self, app: Celery, given: dict[str, object]) -> None:
        self._app, self.given = ref(app), given
        self._runtime: Runtime | None = None

    @property
    def runtime(self) -> Runtime:
        if self._runtime is None:
            self._runtime = make_runtime(self.settings())
        return self._runtime

    @property
    def made(self) -> bool:
        return self._runtime is not None

    def settings(self) -> Settings:
        """What `setup` was given, else `app.conf.cachify_<name>`, else the environment and the broker, for the URL.

        Raises:
            CachifySettingError: a name or a value is wrong.
            CachifyInitError: no URL was given, and the broker is not plain Redis.
        """
        conf: Any = self._conf
        read = {}
        for name in Settings.names():
            with suppress(KeyError):  # not `in`: Celery answers False for what it has not read yet
                read[name] = conf[PREFIX + name]
        Settings.check_names(self._named(conf), called=PREFIX)
        merged = {**read, **self.given}
        if merged.get("url") is None:
            merged["url"] = os.environ.get(ENVIRONMENT) or self._broker()
        check_url(merged["url"], called=f"{PREFIX}url")
        return Settings.checked(merged, called=PREFIX)

    def _named(self, conf: Iterable[str]) -> Iterator[str]:
        """The names after `cachify_` that the app's configuration gives; under a namespace they look like
        CELERY_CACHIFY_URL. Upper-case names without it are somebody else's: Django lists all of its settings here.
        """
        app: Any = self._app()
        spaced = f"{app.namespace}_{PREFIX}".upper() if app.namespace else None
        for key in conf:
            if key.startswith(PREFIX):
                yield key[len(PREFIX) :]
            elif spaced is not None and key.startswith(spaced):
                yield key[len(spaced) :].lower()

    @property
    def _conf(self) -> Any:
        app = self._app()
        assert app is not None, "the app is the key under which this is kept"
        return app.conf

    def _broker(self) -> str:
        conf = self._conf
        url = conf.broker_read_url or conf.broker_url
        if isinstance(url, str) and url.startswith(SCHEMES[:2]) and ";" not in url:
            return _CERT_REQS.sub(lambda found: found[0].replace("CERT_", "").lower(), url)
        shown = "; ".join(hide_password(one) for one in re.split(r";(?=\w+://)", str(url)))
        raise CachifyInitError(
            f"{PREFIX}url is not set, and the broker ({shown}) is not one plain redis:// URL that could serve: set "
            f"app.conf.{PREFIX}url or the environment variable {ENVIRONMENT}"
        )


def state_of(app: Celery) -> AppState | None:
    """What `setup` made of this app; None: it was not called.

    In a process that was spawned instead of forked, Celery runs tasks by a copy of the app, which has come there
    pickled. The program's modules are imported there too, so `setup` was called on the app that they make. Both have
    the same name.
    """
    state = _states.get(app)
    if state is None and getattr(base, "USING_EXECV", False):
        originals = [known for original, known in _states.items() if original.main == app.main]
        state = originals[0] if len(originals) == 1 else None
    return state


def runtime_of(app: Celery) -> Runtime:
    """The app's engine.

    Raises:
        CachifyInitError: `setup(app)` was not called.
    """
    state = state_of(app)
    if state is None:
        raise CachifyInitError(f"the Celery app {app.main!r} was not set up: call cachify_tasks.celery.setup(app)")
    return state.runtime


def join_global(app: Celery) -> Runtime:
    """The app's engine, after it has become the program's, or has been found to agree with it."""
    runtime = runtime_of(app)
    if all(same_store(state.runtime, runtime) for state in _states.values() if state.made):
        join(as_app(app))
    return runtime


def as_app(app: Celery) -> App:
    """The app as the registry of adapters knows it."""
    return App(f"the Celery app {app.main!r}", functools.partial(runtime_of, app))


def runtime_for_direct_call(app: Celery, policy: Policy) -> Runtime:
    """Where a plain call of a task, or its `.size`, looks: where its `pooled` was bound to, else where `init_cachify`
    said, else in its own app's store.
    """
    return policy.runtime or chosen_runtime() or runtime_of(app)


def task_policy(task: object) -> Policy | None:
    """The policy of a task, found on its `run`."""
    return policy_of(getattr(task, "run", None)) or policy_of(getattr(task, "_orig_run", None))


def check_one_policy(task: Any) -> None:
    """Refuse a second `@pooled` on one task: a worker asks for one slot, and the other limit would be ignored.

    Raises:
        ImproperlyConfigured: there are two.
    """
    found: list[Policy] = list(getattr(task, "cachify_refused", ()))
    found += [policy for policy in policies_of(getattr(task, "_orig_run", None) or task.run) if policy not in found]
    if len(found) > 1:
        refuse_two_policies(task.name, found)


def refuse_two_policies(name: str, policies: Iterable[Policy]) -> NoReturn:
    raise ImproperlyConfigured(why_not_two(name, policies))


def takes_task(task: Any, policy: Policy) -> bool:
    """Is the task itself the first argument of the gated function (`bind=True`, a class-based `run`)?"""
    run = getattr(task, "_orig_run", None) or task.run
    return policy_of(getattr(run, "__func__", run if isinstance(task, type) else None)) is policy and (
        not isinstance(task, type) or not isinstance(inspect.getattr_static(task, "run"), staticmethod)
    )


def mark(task: Any) -> None:
    """Give a task (or the class of one) the `.size` of its function, in its own app's store."""
    policy = task_policy(task)
    if policy is not None:
        check_one_policy(task)
        _show_own_arguments(task.run, getattr(task, "_orig_run", None))
    if policy is not None and "size" not in vars(task):

        def size(*args: object, **kwargs: object) -> object:
            return size_of(replace(policy, runtime=runtime_for_direct_call(task.app, policy)))(*args, **kwargs)

        own = functools.partial(size, task) if takes_task(task, policy) else size
        task.size = staticmethod(own) if isinstance(task, type) else own


def _show_own_arguments(run: object, own: object) -> None:
    """Celery's wrapper of `autoretry_for` shows the function's signature, `self` included: it has copied what is on it.

    By that signature `Task.retry(kwargs=...)` finds out which argument a keyword replaces.
    """
    shown = getattr(run, "__dict__", {})
    if inspect.ismethod(own) and "__signature__" in shown:
        shown["__signature__"] = inspect.signature(own)


def mark_tasks(sender: Celery, **_: object) -> None:
    """All of an app; those whose class is not the app's own are met here only."""
    for task in sender.tasks.values():
        mark(task)
