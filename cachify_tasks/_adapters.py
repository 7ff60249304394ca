"""What the adapters of task frameworks bring: the registry through which the other rooms meet them.

An adapter is a subpackage that has the name of its framework's top-level module. It registers

- a probe: what a worker has already decided about the call that is being made;
- its apps: where they keep their slots, for direct calls in a program without `init_cachify()`;
- nothing for `@pooled` above the framework's own decorator: its module `decorator_order` is found by name.

Nothing here or in the rooms below an adapter names a framework.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from .errors import CachifyError, CachifyInitError
from .settings import UNSET, Unset

if TYPE_CHECKING:
    from ._core.decisions import Decision, FullPool, Strategy
    from ._core.policy import Policy
    from ._runtime.runtime import Runtime
    from ._runtime.slot import Slot


@dataclass(frozen=True, slots=True)
class Admission:
    """What a worker has decided about the run that calls the function.

    Attributes:
        runtime: of the app that the task belongs to.
        slot: the slot that the worker holds for this run; None: it holds none.
        full: the pool was full: how full it was, and how often the task was put off.
        decision: what to do instead of running; None: run.
        default: the strategy that stands for an `on_full` that was not given.
        inline: no worker has asked for a slot (an eager task): ask here, with the defaults of tasks.
        key_error: the arguments make no key, and no slot is held. Those that do not fit the function run into its own
            error; with others the call fails with this one.
    """

    runtime: Runtime
    slot: Slot | None = None
    full: FullPool | None = None
    decision: Decision | None = None
    default: Strategy | Unset | None = UNSET
    inline: bool = False
    key_error: Exception | None = None


Probe: TypeAlias = "Callable[[Policy], Admission | None]"
_probes: Final[list[Probe]] = []


def register_probe(probe: Probe) -> None:
    """Ask this probe about each call of a function in a pool; it returns None for what is no task of its framework."""
    if probe not in _probes:
        _probes.append(probe)


def admission(policy: Policy) -> Admission | None:
    """What a worker has decided about the current call of this policy's function; None: it is a direct call."""
    for probe in _probes:
        found = probe(policy)
        if found is not None:
            return found
    return None


@dataclass(frozen=True, slots=True)
class App:
    """Something that says where a program's slots are.

    Attributes:
        name: as it is shown in messages: "the Celery app 'shop'", "init_cachify()".
        runtime: returns its runtime, and makes it when it is first called.
    """

    name: str
    runtime: Callable[[], Runtime]


AppsProvider: TypeAlias = Callable[[], Iterable[App]]
_providers: Final[list[AppsProvider]] = []


def register_apps(provider: AppsProvider) -> None:
    """Let direct calls use the store of these apps where there was no `init_cachify()`."""
    if provider not in _providers:
        _providers.append(provider)


def provided_app() -> App | None:
    """The app whose store serves direct calls in a program without `init_cachify()`; None: no app was set up.

    An app whose settings are incomplete is left out where another one can serve: a program may only send its tasks.

    Raises:
        CachifyInitError: the apps, of one framework or of several, have different stores.
        CachifyError: no app's settings are complete; it is the error of the last one.
    """
    usable: list[App] = []
    error: CachifyError | None = None
    for provider in _providers:
        for app in provider():
            try:
                app.runtime()
            except CachifyError as found:
                error = found
            else:
                usable.append(app)
    if usable:
        return agreed(usable)
    if error is not None:
        raise error
    return None


def agreed(apps: Iterable[App]) -> App:
    """The first one, after a look whether all of them keep their slots in the same place.

    Raises:
        CachifyInitError: two of them do not: the limits of one program would be split over two stores, or one app would
            silently use the store of the other.
    """
    first, *others = apps
    runtime = first.runtime()
    for other in others:
        if not same_store(runtime, other.runtime()):
            raise CachifyInitError(
                f"{first.name} uses the store {_shown(runtime)}, {other.name} the store {_shown(other.runtime())}: "
                "limits would not be shared. Give both the same url and prefix. To keep two stores, say which one "
                "direct calls use: that of init_cachify(), if it is called; called with is_global=False, it serves "
                "the pools of its own instance alone"
            )
    return first


def same_store(one: Runtime, other: Runtime) -> bool:
    """Do two runtimes share their limits? Each memory is a store of its own."""
    if one.store is other.store:
        return True
    return not one.store.local and place(one) == place(other)


def place(runtime: Runtime) -> tuple[str, str]:
    """Where its slots are; two runtimes of one place share their limits, unless it is memory."""
    return runtime.store.shown, runtime.settings.prefix


def _shown(runtime: Runtime) -> str:
    return f"{runtime.store.shown} (prefix {runtime.settings.prefix!r})"


class Adopter(Protocol):
    """Puts a policy on an object that a framework's decorator has made of a function, and returns the object."""

    def __call__(self, thing: object, decorate: Callable[[object], object], /) -> object: ...


def adopter(thing: object) -> Adopter | None:
    """How a framework's object takes `@pooled` when it stands above the framework's own decorator; None: it does not.

    The adapter is found by the top-level module of the object's class. `type(x)`, not isinstance: to look at an
    attribute of a lazy object may make it.
    """
    for cls in type(thing).__mro__:
        found = _adopter_of(cls.__module__.partition(".")[0])
        if found is not None:
            return found
    return None


@functools.cache
def _adopter_of(framework: str) -> Adopter | None:
    package = find_spec(f"{__package__}.{framework}")
    if package is None or PathFinder.find_spec("decorator_order", package.submodule_search_locations or []) is None:
        return None
    adopt: Adopter = importlib.import_module(f"{package.name}.decorator_order").adopt
    return adopt
