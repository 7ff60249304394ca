"""How a framework tells a gated function that its worker has let this run in already, or what to do instead.

A framework's adapter registers a probe. The function asks the probes when it is called; the first answer counts. This
keeps the general pool free of frameworks, and a task from being gated twice.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ..settings import UNSET
from .decisions import Decision, FullPool


@dataclass(frozen=True, slots=True)
class Admission:
    """What is known of the run that calls the function.

    Attributes:
        engine: of the program that the task belongs to.
        slot: the slot that its worker holds for it; None: it has none.
        full: the pool was full: how full it was, and how often this call was put off.
        decision: what to do instead of running; None: run.
        default: the strategy that stands for an on_full that was not given.
        inline: nobody has asked yet (an eager task): ask here, with the defaults of tasks.
    """

    runtime: Any
    slot: Any = None
    full: FullPool | None = None
    decision: Decision | None = None
    default: Any = UNSET
    inline: bool = False


Probe = Callable[[Any], Admission | None]
admission_probes: Final[list[Probe]] = []


def admission(policy: Any) -> Admission | None:
    """What the frameworks know of the call of this policy's function that is being made."""
    for probe in admission_probes:
        found = probe(policy)
        if found is not None:
            return found
    return None


# Decorated objects of frameworks, by the module of their class -> who can take in a policy over them.
ADOPTERS: Final = {
    "celery.local": "cachify_tasks.celery.decorator_order",
    "celery.app.task": "cachify_tasks.celery.decorator_order",
}


def adopter(thing: Any) -> Callable[[Any, Callable[[Any], Any]], Any] | None:
    """How a framework's object takes `@pooled` when it stands above the framework's decorator; None: it is a function.

    `type(x)`, not isinstance: merely touching a lazy object of Celery creates a default app.
    """
    for cls in type(thing).__mro__:
        module = ADOPTERS.get(cls.__module__)
        if module:
            return importlib.import_module(module).adopt  # type: ignore[no-any-return]
    return None
