"""`init_cachify`, the instance it makes, and `cached`."""

from __future__ import annotations

import functools
import inspect
import pickle
from collections.abc import Callable
from typing import Any, TypeAlias

from ._checks import Seconds, milliseconds
from ._core.commands import Delete, Get, Put
from ._core.key_template import KeyTemplate, signature_of
from ._redis.clients import MEMORY, check_client, check_url
from ._runtime.runtime import Runtime, global_runtime, peek_global_runtime, set_global_runtime
from ._store.memory_store import MemoryStore
from ._store.redis_store import RedisStore
from .errors import CachifyInitError
from .pooling import Pool, WrappedFunctionPool, _Decorator, slot_exp_ms
from .settings import UNSET, Settings, Unset
from .strategies import as_strategy

__all__ = ["AsyncClient", "Cachify", "Decoder", "Encoder", "SyncClient", "cached", "init_cachify"]

Encoder: TypeAlias = Callable[[Any], Any]
Decoder: TypeAlias = Callable[[Any], Any]
SyncClient: TypeAlias = Any  # redis.Redis, or what behaves like it: its scripts run in the server
AsyncClient: TypeAlias = Any  # redis.asyncio.Redis


def make_runtime(
    settings: Settings,
    *,
    sync_client: SyncClient = None,
    async_client: AsyncClient = None,
    slot_exp: Seconds | Unset | None = UNSET,
    cache_ttl: Seconds | None = None,
) -> Runtime:
    """An engine for checked settings; no input or output happens."""
    default = as_strategy(settings.default_on_full, called="default_on_full", names=True)
    settings = settings.but(default_on_full=default)
    if sync_client is not None:
        check_client("sync_client", sync_client, is_async=False)
    if async_client is not None:
        check_client("async_client", async_client, is_async=True)
    given = sync_client is not None or async_client is not None
    if given and settings.url is not None:
        raise ValueError("give a url or clients, not both: the store would be ambiguous")
    store: Any
    if given:
        store = RedisStore(settings.prefix, sync_client=sync_client, async_client=async_client)
    elif settings.url is not None and check_url(settings.url) != MEMORY:
        store = RedisStore(settings.prefix, settings.url)
    else:
        store = MemoryStore()
    hard = slot_exp_ms(slot_exp)
    ttl = None if cache_ttl is None else milliseconds("default_cache_ttl", cache_ttl)
    return Runtime(store, settings, hard if isinstance(hard, int) else None, ttl)


class Cachify:
    """`pool`, `pooled` and `cached` on one store; made by `init_cachify`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def pool(self, key: str, max_size: int, slot_exp: Seconds | Unset | None = UNSET) -> Pool:
        """As the function `pool`, on this instance's store."""
        return Pool(key, max_size, slot_exp, _runtime=self._runtime)

    def pooled(
        self,
        key: str,
        max_size: int,
        on_full: Any = UNSET,
        raise_on_full: bool = False,
        slot_exp: Seconds | Unset | None = UNSET,
    ) -> WrappedFunctionPool:
        """As the function `pooled`, on this instance's store."""
        return _Decorator(key, max_size, on_full, raise_on_full, slot_exp_ms(slot_exp), self._runtime)

    def cached(
        self, key: str, ttl: Seconds | Unset | None = UNSET, enc_dec: tuple[Encoder, Decoder] | None = None
    ) -> Callable[[Any], Any]:
        """As the function `cached`, on this instance's store."""
        return _Cached(key, ttl, enc_dec, self._runtime)

    def close(self) -> None:
        """Close the connections that were opened for it; it opens new ones when it is used again."""
        self._runtime.close()

    async def aclose(self) -> None:
        """Close the connections that were opened for it in the running event loop."""
        await self._runtime.store.aclose()

    def __repr__(self) -> str:
        return f"<Cachify on {self._runtime.store.shown}>"


def init_cachify(
    sync_client: SyncClient = None,
    async_client: AsyncClient = None,
    default_lock_expiration: Seconds | Unset | None = UNSET,
    default_cache_ttl: Seconds | None = None,
    prefix: str = "PYC-",
    lock_poll_interval: float = 0.1,
    default_pool_slot_expiration: Seconds | Unset | None = UNSET,
    *,
    is_global: bool = True,
    **settings: Any,
) -> Cachify:
    """Say where slots and cached values are; `pool`, `pooled` and `cached` use it from then on.

    Without a client and without `url` they are in the memory of this process.

    Args:
        sync_client, async_client: redis-py clients. With one given, the other side's is derived from its settings.
        default_lock_expiration, lock_poll_interval: accepted for programs that give them.
        default_cache_ttl: seconds that `cached` keeps values; None: for ever.
        prefix: put in front of every key in the store.
        default_pool_slot_expiration: the hard limit, in seconds, of slots that name none. Not given or None: none; a
            slot is renewed as long as its process lives.
        is_global: False: leave the global instance alone; use the returned one.
        **settings: `url` ("redis://host:6379/0"), `lease_ttl` (30.0 seconds), `start_timeout`, `on_store_error`
            ("raise", "retry", "run"), `default_on_full`: see `Settings`.

    Raises:
        CachifySettingError: a setting is unknown or has a value it cannot take.
        TypeError, ValueError: a client is none, or both a client and a url are given.

    Example:
        >>> from cachify_tasks import init_cachify
        >>> init_cachify(is_global=False)
        <Cachify on memory>
    """
    runtime = make_runtime(
        Settings.checked({"prefix": prefix, **settings}),
        sync_client=sync_client,
        async_client=async_client,
        slot_exp=default_pool_slot_expiration,
        cache_ttl=default_cache_ttl,
    )
    if is_global:
        set_global_runtime(runtime, chosen=True)
    return Cachify(runtime)


def supply_global(runtime: Runtime) -> None:
    """Make this engine the global one if there is none.

    Raises:
        CachifyInitError: there is one with another store: one program would be split over two.
    """
    known = peek_global_runtime()
    if known is None:
        set_global_runtime(runtime)
        return
    if known.store is runtime.store:
        return
    same = (known.store.shown, known.settings.prefix) == (runtime.store.shown, runtime.settings.prefix)
    if known is not runtime and (known.store.local or not same):  # each memory is a store of its own
        raise CachifyInitError(
            f"init_cachify() chose the store {known.store.shown} (prefix {known.settings.prefix!r}) and the Celery app "
            f"{runtime.store.shown} (prefix {runtime.settings.prefix!r}): limits would not be shared. Give both the "
            "same url and prefix, or leave init_cachify() out, or call it with is_global=False"
        )


class _Cached:
    """What `cached(...)` returns."""

    def __init__(self, key: str, ttl: Any, enc_dec: tuple[Encoder, Decoder] | None, runtime: Runtime | None) -> None:
        self._key, self._bound = key, runtime
        self._ttl_ms = ttl if ttl is None or isinstance(ttl, Unset) else milliseconds("ttl", ttl)
        self._encode: Encoder | None = enc_dec[0] if enc_dec else None
        self._decode: Decoder | None = enc_dec[1] if enc_dec else None

    @property
    def _runtime(self) -> Runtime:
        return self._bound or global_runtime()

    def _dump(self, value: Any) -> bytes:
        return pickle.dumps(self._encode(value) if self._encode else value)

    def _load(self, data: bytes | None) -> Any:
        value = None if data is None else pickle.loads(data)
        return value if value is None or self._decode is None else self._decode(value)

    def _put(self, name: str, value: Any) -> Put:
        ttl = self._runtime.default_ttl_ms if isinstance(self._ttl_ms, Unset) else self._ttl_ms
        return Put(name, self._dump(value), ttl)

    def __call__(self, function: Any) -> Any:
        template = KeyTemplate(self._key, signature_of(function))
        wrapper: Any
        reset: Any
        if inspect.iscoroutinefunction(function):

            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                name, store = template.resolve(args, kwargs), self._runtime.store
                value = self._load(await store.aexecute(Get(name)))
                if value is None:
                    value = await function(*args, **kwargs)
                    await store.aexecute(self._put(name, value))
                return value

            async def reset(*args: Any, **kwargs: Any) -> None:
                await self._runtime.store.aexecute(Delete(template.resolve(args, kwargs)))

        else:

            def wrapper(*args: Any, **kwargs: Any) -> Any:
                name, store = template.resolve(args, kwargs), self._runtime.store
                value = self._load(store.execute(Get(name)))
                if value is None:
                    value = function(*args, **kwargs)
                    store.execute(self._put(name, value))
                return value

            def reset(*args: Any, **kwargs: Any) -> None:
                self._runtime.store.execute(Delete(template.resolve(args, kwargs)))

        functools.update_wrapper(wrapper, function)
        wrapper.reset = reset
        return wrapper


def cached(
    key: str, ttl: Seconds | Unset | None = UNSET, enc_dec: tuple[Encoder, Decoder] | None = None
) -> Callable[[Any], Any]:
    """Keep a function's results and answer later calls with them.

    Args:
        key: names the result; fields as in `pooled`.
        ttl: seconds a result is kept; None: until `reset`. Not given: `default_cache_ttl`.
        enc_dec: two functions that turn a value into what is kept, and back.

    Returns:
        A decorator. The function gets `.reset(*args, **kwargs)`. None is never a hit; exceptions are not kept. Results
        are pickled: whoever can write to the store can run code where they are read.

    Example:
        >>> from cachify_tasks import cached, init_cachify
        >>> cachify = init_cachify()
        >>> @cached(key="double-{n}", ttl=60)
        ... def double(n: int) -> int:
        ...     return 2 * n
        >>> double(4), double(4), double.reset(4)
        (8, 8, None)
    """
    return _Cached(key, ttl, enc_dec, None)
