"""What a worker looks at when it starts: its store, and the limits on its tasks."""

from __future__ import annotations

import logging
from typing import Final

from .._adapters import same_store
from .._core.decisions import Waiting, waiting_of
from .._core.key_commands import Ping
from .._core.policy import Policy
from .._runtime.runtime import Runtime
from .._store.redis_store import denied
from ..errors import CachifyInitError, CachifyStoreError
from ..settings import Unset
from .limits import default_on_full

logger = logging.getLogger("cachify_tasks")

_UNTIL_IT_ANSWERS: Final = {"retry": "wait", "run": "run without a limit", "raise": "fail"}  # by on_store_error


def greet(runtime: Runtime, *, setting: str) -> None:
    """Wrong credentials end the worker now; a store that is out of reach does not.

    Args:
        setting: what the store's URL is called.

    Raises:
        CachifyInitError: the store refuses this worker, or cannot hold slots.
    """
    store = runtime.store
    try:
        store.execute(Ping())
    except CachifyStoreError as error:
        if denied(error.__cause__):
            raise CachifyInitError(f"{setting}: {error}") from None
        choice = runtime.settings.on_store_error
        meanwhile = _UNTIL_IT_ANSWERS["retry" if isinstance(choice, Unset) else choice]
        logger.error("%s; until it answers, tasks with a pool %s", error, meanwhile)
        return
    logger.info("cachify: slots in %s, lease %g s", store.shown, runtime.lease_ms / 1000)
    try:
        facts = store.server()
    except CachifyStoreError as error:
        raise CachifyInitError(f"{setting}: {error}") from None
    if facts.eviction not in ("", "noeviction"):
        logger.warning(
            "the store %s evicts keys when its memory is full (maxmemory-policy %s): slots would be forgotten, "
            "limits exceeded; set noeviction",
            store.shown,
            facts.eviction,
        )
    if facts.persistent is False:
        logger.warning(
            "the store %s has no persistence (appendonly no, save empty): a restart of it loses parked tasks, whose "
            "messages are nowhere else",
            store.shown,
        )


def check_default(runtime: Runtime) -> None:
    """Refuse a default strategy that tasks cannot have.

    Raises:
        CachifyInitError: it is `Wait()`.
    """
    strategy = default_on_full(runtime)
    _refuse_waiting(None if strategy is None else waiting_of(strategy), "default_on_full")


def check_limit(name: str, policy: Policy, runtime: Runtime) -> None:
    """Refuse a limit that a worker cannot hold for a task of this name.

    Raises:
        CachifyInitError: its slots are elsewhere, or its strategy is `Wait()`.
    """
    own = policy.runtime
    if own is not None and not same_store(own, runtime):
        raise CachifyInitError(
            f"{name} is under `pooled` of a Cachify on {own.store.shown}, and its app's slots "
            f"are in {runtime.store.shown}: use the function `pooled`, or give both one url and prefix"
        )
    _refuse_waiting(policy.waits(), f"on_full of {name}")
    if policy.on_full is None:
        logger.warning("%s has on_full=None: when its pool is full it is dropped, with the result None", name)


def _refuse_waiting(waiting: Waiting | None, what: str) -> None:
    if waiting is not None:
        raise CachifyInitError(
            f"{what} is Wait(), which is for functions: the task would keep its worker waiting. Give Park(): it waits "
            "in the same queue, at no cost"
        )
