"""`setup(app)`: hooks the worker's steps, the child's probe and `inspect pools` into an app."""

from __future__ import annotations

from typing import Any

from celery import Celery

from .._adapters import App, register_apps, register_probe
from .._redis.clients import check_url
from ..errors import CachifySettingError
from ..settings import Settings
from ..strategies import as_strategy
from . import inspect_pools  # noqa: F401  # registers `inspect pools`
from .app import PREFIX, AppState, _states, as_app, mark, mark_tasks
from .bootsteps import CheckGates, InstallGate
from .child_admission import probe


def setup(app: Celery, **settings: Any) -> None:
    """Run the tasks of this app that are under `@pooled` inside slots.

    One that finds its pool full and names no strategy is parked: see `Park`.

    Call it once, anywhere before the worker starts: where the app is made, or in a factory's `create_app`. It connects
    to nothing. A program that does not call `init_cachify` uses this app's store for plain calls too.

    Args:
        app: the Celery app.
        **settings: `url`, `prefix`, `lease_ttl`, `start_timeout`, `on_store_error`, `default_on_full`, as in
            `Settings`; each can be given as `app.conf.cachify_<name>` instead. `url` falls back to the environment
            variable CACHIFY_URL, then to the broker's URL when that is plain Redis.

    Raises:
        CachifySettingError: a setting is unknown or has a value it cannot take.
        TypeError: `app` is not a Celery app.

    Example:
        >>> from celery import Celery
        >>> from cachify_tasks.celery import setup
        >>> app = Celery("shop", broker="redis://localhost:6379/0")
        >>> setup(app, lease_ttl=15)
    """
    if not isinstance(app, Celery):
        raise TypeError(f"setup() takes a Celery app, not {app!r}")
    given = Settings.checked(settings)
    if given.url is not None:
        check_url(given.url, called=f"{PREFIX}url")
    as_strategy(given.default_on_full, called="default_on_full")
    known = _states.get(app)
    if known is not None:
        if settings and settings != known.given:
            if known.made:
                raise CachifySettingError("setup() was called again with other settings, after the first were used")
            known.given = {**known.given, **settings}
        return
    _states[app] = AppState(app, settings)
    app.steps["worker"].add(InstallGate)
    app.steps["consumer"].add(CheckGates)
    app.on_after_finalize.connect(mark_tasks, weak=False)
    _mark_new(app)
    if app.finalized:  # type: ignore[attr-defined]
        mark_tasks(app)
    register_probe(probe)
    register_apps(_apps)


def _apps() -> list[App]:
    """The apps that were set up, for direct calls in a program that has not called `init_cachify`."""
    return [as_app(app) for app in list(_states)]


def _mark_new(app: Celery) -> None:
    """The app's own Task class tells of each task that is made of it: also where an app is never finalized."""
    base: Any = app.Task
    bound = base.on_bound

    def on_bound(cls: type, app: Celery) -> None:
        bound.__func__(cls, app)
        mark(cls)

    base.on_bound = classmethod(on_bound)
