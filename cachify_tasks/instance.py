"""`init_cachify`, which says where slots and cached values are, and the instance that it returns."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias, TypedDict, Unpack

from ._checks import Seconds, flag, milliseconds
from ._redis.clients import MEMORY, check_client, check_url
from ._runtime.instances import set_global_runtime
from ._runtime.runtime import Runtime
from ._store.memory_store import MemoryStore
from ._store.redis_store import RedisStore
from .caching import CachedDecorator, Decoder, Encoder
from .pooling import OnFull, Pool, PooledDecorator, slot_exp_ms
from .settings import UNSET, Settings, StoreErrorChoice, Unset
from .strategies import as_strategy

if TYPE_CHECKING:
    from ._core.typing import CachedFunction, WrappedFunctionPool
    from ._store.interface import Store

__all__ = ["AsyncClient", "Cachify", "SyncClient", "init_cachify"]

SyncClient: TypeAlias = object  # a redis.Redis, or what behaves like it: its scripts run in the server
AsyncClient: TypeAlias = object  # a redis.asyncio.Redis


class StoreSettings(TypedDict, total=False):
    """The settings that `init_cachify` takes as keywords, see `Settings`."""

    url: str | None
    lease_ttl: Seconds
    start_timeout: Seconds
    on_store_error: StoreErrorChoice | Unset
    default_on_full: OnFull


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
    **settings: Unpack[StoreSettings],
) -> Cachify:
    """Say where slots and cached values are; `pool`, `pooled` and `cached` use that from then on.

    Without a client and without `url` they are in the memory of this process. Nothing is connected yet.

    Args:
        sync_client, async_client: redis-py clients. If one is given, the other one is derived from its settings.
        default_lock_expiration, lock_poll_interval: accepted for programs that give them, and not used.
        default_cache_ttl: seconds that `cached` keeps values; None: until they are reset.
        prefix: put in front of every key in the store; no braces.
        default_pool_slot_expiration: the hard limit, in seconds, of slots that name none. Not given or None: none; a
            slot is renewed as long as its process lives.
        is_global: False: leave the global instance as it is; use the returned one.
        **settings: `url` ("redis://host:6379/0"), `lease_ttl` (30.0 seconds), `start_timeout`, `on_store_error`
            ("raise", "retry", "run"), `default_on_full`: see `Settings`.

    Returns:
        Cachify: `pool`, `pooled` and `cached` on this store, whatever the global instance is.

    Raises:
        CachifySettingError: a setting is unknown or has a value that it cannot have.
        TypeError, ValueError: a client is none, both a client and a url are given, or `is_global` is no bool.

    Example:
        >>> from cachify_tasks import init_cachify
        >>> init_cachify(is_global=False)
        <Cachify on memory>
    """
    flag("is_global", is_global)
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
        on_full: OnFull = UNSET,
        raise_on_full: bool = False,
        slot_exp: Seconds | Unset | None = UNSET,
    ) -> WrappedFunctionPool:
        """As the function `pooled`, on this instance's store."""
        return PooledDecorator(
            key, max_size, on_full, raise_on_full=raise_on_full, slot_exp_ms=slot_exp_ms(slot_exp),
            runtime=self._runtime,
        )  # fmt: skip

    def cached(
        self, key: str, ttl: Seconds | Unset | None = UNSET, enc_dec: tuple[Encoder, Decoder] | None = None
    ) -> CachedFunction:
        """As the function `cached`, on this instance's store."""
        return CachedDecorator(key, ttl, enc_dec, self._runtime)

    def close(self) -> None:
        """Close the connections that were opened for it; it opens new ones when it is used again."""
        self._runtime.close()

    async def aclose(self) -> None:
        """Close the connections that were opened for it in the running event loop."""
        await self._runtime.store.aclose()

    def __repr__(self) -> str:
        return f"<Cachify on {self._runtime.store.shown}>"


def make_runtime(
    settings: Settings,
    *,
    sync_client: SyncClient = None,
    async_client: AsyncClient = None,
    slot_exp: Seconds | Unset | None = UNSET,
    cache_ttl: Seconds | None = None,
) -> Runtime:
    """A runtime for checked settings. Nothing is connected yet."""
    default = as_strategy(settings.default_on_full, called="default_on_full")
    hard = slot_exp_ms(slot_exp)
    return Runtime(
        _make_store(settings, sync_client, async_client),
        replace(settings, default_on_full=default),
        slot_exp_ms=hard if isinstance(hard, int) else None,
        default_ttl_ms=None if cache_ttl is None else milliseconds("default_cache_ttl", cache_ttl),
    )


def _make_store(settings: Settings, sync_client: SyncClient, async_client: AsyncClient) -> Store:
    if sync_client is not None:
        check_client("sync_client", sync_client, is_async=False)
    if async_client is not None:
        check_client("async_client", async_client, is_async=True)
    given = sync_client is not None or async_client is not None
    if given and settings.url is not None:
        raise ValueError("give a url or clients, not both: the store would be ambiguous")
    if given:
        return RedisStore(settings.prefix, sync_client=sync_client, async_client=async_client)
    if settings.url is not None and check_url(settings.url) != MEMORY:
        return RedisStore(settings.prefix, settings.url)
    return MemoryStore()
