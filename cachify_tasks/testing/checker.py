"""`check` and `assert_sound`: is what a store holds in order?"""

from __future__ import annotations

import inspect
from typing import Any

from redis.exceptions import RedisError

from .._checks import flag
from .._core.keys import Schema
from .._redis.clients import MEMORY
from .._runtime.instances import global_runtime
from .._runtime.runtime import Runtime
from .._store.memory_store import MemoryStore
from .._store.redis_store import RedisStore
from ..errors import CachifyStoreError
from ..instance import Cachify
from ..settings import Settings
from . import rules
from .key_scan import KeyScan
from .problems import Problem
from .snapshot import from_memory, from_server


def check(where: Any = None, *, prefix: str | None = None, settled: bool = False) -> list[Problem]:
    """Every broken invariant of a store, while others go on using it; it changes nothing.

    For tests: it walks over all keys of the prefix with SCAN, which an operator of a large server will not like. Each
    pool is read by one script, so that what a script does to it is seen as a whole or not at all.

    Args:
        where: a URL, a redis-py client (sync or asyncio), or what `init_cachify` returned; None: the global instance.
        prefix: of a URL's or client's keys; not given: the default.
        settled: nothing is going on any more. Then a ticket beside a free slot for which a reaper is due is reported,
            too; while a program runs its reaper comes soon.

    Returns:
        list[Problem]: empty if all is in order. A problem with `note` true may be none.

    Raises:
        CachifyStoreError: the store could not be read.
        TypeError: `where` is something else, or `settled` is no bool.

    Example:
        >>> from cachify_tasks import pool, testing
        >>> with testing.memory(), pool("reports", max_size=2):
        ...     testing.check()
        []
    """
    flag("settled", settled)
    store, keys, ours = _opened(where, prefix)
    if isinstance(store, MemoryStore):
        return _sorted([p for snapshot in from_memory(store) for p in rules.problems(snapshot, settled=settled)])
    schema, now = Schema(keys, store.schema.layout), store._now()
    try:
        scan = KeyScan(store.client, schema)
        found = scan.found
        for pool in scan.pools:
            found += rules.problems(from_server(store.client, schema, pool, now), settled=settled)
    except RedisError as error:
        raise CachifyStoreError(f"the store {store.shown} could not be read: {error!r}") from error
    finally:
        if ours:
            store.close()
    return _sorted(found)


def assert_sound(where: Any = None, *, prefix: str | None = None, settled: bool = False) -> None:
    """Fail the test if `check` finds a problem; notes alone do not fail it.

    Args:
        where, prefix, settled: as in `check`.

    Raises:
        AssertionError: it lists the problems, and the notes.
        CachifyStoreError, TypeError: as in `check`.

    Example:
        >>> from cachify_tasks import pool, testing
        >>> with testing.memory(), pool("reports", max_size=2):
        ...     testing.assert_sound()
    """
    found = check(where, prefix=prefix, settled=settled)
    if any(not problem.note for problem in found):
        raise AssertionError("the store is not in order:\n" + "\n".join(f"- {problem}" for problem in found))


def _opened(where: Any, prefix: str | None) -> tuple[MemoryStore | RedisStore, str, bool]:
    """The store, the prefix of its keys, and whether it was opened here."""
    if isinstance(where, Cachify):
        where = where._runtime
    elif where is None:
        where = global_runtime()
    if isinstance(where, Runtime):
        store = where.store
        if not isinstance(store, MemoryStore | RedisStore):
            raise TypeError(f"check() knows the stores in memory and in Redis, not {store!r}")
        return store, prefix if prefix is not None else where.settings.prefix, False
    keys = Settings(prefix=prefix).prefix if prefix is not None else Settings().prefix
    if where == MEMORY:
        raise TypeError(
            "each memory is a store of its own: give what init_cachify() returned, or nothing for the global one"
        )
    if isinstance(where, str):
        return RedisStore(keys, where), keys, True
    if not hasattr(where, "execute_command"):
        raise TypeError(f"check() takes a URL, a redis-py client or a Cachify, not {where!r}")
    side = "async_client" if inspect.iscoroutinefunction(where.execute_command) else "sync_client"
    return RedisStore(keys, **{side: where}), keys, True


def _sorted(found: list[Problem]) -> list[Problem]:
    return sorted(dict.fromkeys(found), key=lambda problem: (problem.note, problem.pool, problem.kind, problem.detail))
