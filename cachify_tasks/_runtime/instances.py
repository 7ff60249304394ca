"""The global runtime: the one of the last `init_cachify()`, else the one that the program's apps agree on."""

from __future__ import annotations

from dataclasses import dataclass

from .._adapters import App, agreed, provided_app
from ..errors import CachifyInitError
from .runtime import Runtime

INIT = "init_cachify()"


@dataclass(frozen=True, slots=True)
class _Global:
    """name: who said so, as shown in messages. chosen: by `init_cachify()`, not by an app."""

    runtime: Runtime
    name: str
    chosen: bool


_global: _Global | None = None


def global_runtime() -> Runtime:
    """What direct calls use.

    Raises:
        CachifyInitError: there was no `init_cachify()`, and no app says where slots are, or two apps say different
            things.
    """
    if _global is not None:
        return _global.runtime
    app = provided_app()
    if app is None:
        raise CachifyInitError(
            "Cachify is not initialized, did you forget to call `init_cachify`? The app of a task framework needs "
            "`setup(app)` of its adapter"
        )
    set_global_runtime(app.runtime(), name=app.name)
    return app.runtime()


def peek_global_runtime() -> Runtime | None:
    """The global runtime, if there is one already."""
    return None if _global is None else _global.runtime


def chosen_runtime() -> Runtime | None:
    """The runtime of `init_cachify()`, if it was called; not one that an app has provided."""
    return _global.runtime if _global is not None and _global.chosen else None


def set_global_runtime(runtime: Runtime | None, *, name: str = INIT, chosen: bool = False) -> None:
    """Make this the global one; None: there is none from now on."""
    global _global
    _global = None if runtime is None else _Global(runtime, name, chosen)


def join_global(app: App) -> Runtime:
    """Make the runtime of an app the global one if there is none. Returns the app's runtime.

    Raises:
        CachifyInitError: there is one with another store: the limits of one program would be split over two.
    """
    runtime = app.runtime()
    known = _global
    if known is None:
        set_global_runtime(runtime, name=app.name)
    elif known.runtime is not runtime:
        agreed([App(known.name, lambda: known.runtime), app])
    return runtime
