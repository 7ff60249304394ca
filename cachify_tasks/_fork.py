"""What a forked child resets: the only place where `_core` and the rooms above it hook into `os.fork`.

Threads, locks in use, connections and event loops belong to the parent. A module registers its callback when it is
imported, after the modules that it imports; so a callback runs after those of everything that its module relies on:

- `_runtime/events.py`: no listener has failed; `_runtime/event_log.py`: empty log throttles, whose locks nobody holds
- `_runtime/lease_renewer.py`, after these: no slots and no sources to renew, no thread
- `_runtime/runtime.py`, after all of these: each store drops its connections and its waiters
- `_runtime/direct_calls.py`: new names for arrivals
- `_runtime/entries.py`: a new lock

`cachepool` and `pools` stand alone and have hooks of their own.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Final

logger = logging.getLogger("cachify_tasks")

_callbacks: Final[list[Callable[[], None]]] = []


def after_in_child(callback: Callable[[], None]) -> None:
    """Call this in every child that is forked from now on, after the callbacks that were registered before it."""
    _callbacks.append(callback)


def _run_callbacks() -> None:
    for callback in _callbacks:
        try:
            callback()
        except Exception:  # the others must still run
            logger.exception("a forked child could not reset a part of its state")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_run_callbacks)
