"""redis-py clients: made from a URL, or derived from a client that the user has given."""

from __future__ import annotations

import inspect
import re
from typing import Any, Final
from urllib.parse import urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

from .._checks import has_lone_surrogate
from .._core.keys import Layout
from ..errors import CachifyInitError, CachifySettingError
from ..settings import hide_password

TIMEOUT: Final = 2.0  # seconds for a connect or a reply; a query argument of the URL overrides it
RETRIES: Final = 2
MAX_SYNC: Final = 2**31 - 1  # each thread uses one at a time: the threads bound them
MAX_ASYNC: Final = 64  # beyond it coroutines wait for a connection
SCHEMES: Final = ("redis://", "rediss://", "unix://")
MEMORY: Final = "memory://"
# What a connection of the other kind (sync, async) can take over from a given client.
PORTABLE: Final = frozenset(
    {
        "host", "port", "db", "username", "password", "path", "socket_timeout", "socket_connect_timeout",
        "socket_keepalive", "socket_keepalive_options", "health_check_interval", "client_name", "protocol",
        "credential_provider",
        "ssl_keyfile", "ssl_certfile", "ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_ca_data",
        "ssl_check_hostname", "ssl_password", "ssl_min_version", "ssl_ciphers",
    }
)  # fmt: skip


def _backoff() -> ExponentialBackoff:
    return ExponentialBackoff(cap=0.2, base=0.02)


def check_url(url: Any, *, called: str = "url") -> str:
    """The URL, if redis-py can take it.

    Raises:
        CachifySettingError: it cannot; the message names the setting and hides the password.
    """
    if url == MEMORY:
        return MEMORY
    if isinstance(url, str) and has_lone_surrogate(url):
        raise CachifySettingError(f"{called} must be text that UTF-8 can encode: it has a lone surrogate")
    if not isinstance(url, str) or not url.startswith(SCHEMES) or ";" in url:
        shown = hide_password(url) if isinstance(url, str) else repr(url)
        raise CachifySettingError(
            f"{called} must be one URL that begins with {', '.join(SCHEMES)}, not {shown!r}; for Sentinel and "
            "Cluster, plain functions can be given a redis-py client: init_cachify(sync_client=...)"
        )
    try:
        parsed = redis.connection.parse_url(url)  # type: ignore[no-untyped-call]
        if "path" not in parsed and "db" not in parsed and urlsplit(url).path.strip("/"):  # redis-py would take 0
            raise ValueError("Invalid value for the database, which is a number")
        redis.ConnectionPool.from_url(url).make_connection()
    except (RedisError, TypeError, ValueError) as error:
        raise CachifySettingError(f"{called} {hide_password(url)!r} cannot be used: {_reason(url, error)}") from None
    return str(url)


def _reason(url: str, error: Exception) -> str:
    """What the parser complains of may be a piece of the password."""
    if isinstance(error, ValueError) and not str(error).startswith("Invalid value for"):
        return "it cannot be parsed; write a / or # in a password as %2F, %23"
    if "@" in url.partition("://")[2].partition("/")[2] or "@" in url.partition("?")[2]:
        return "write a /, # or ? in a password as %2F, %23, %3F"
    option = re.search(r"unexpected keyword argument ('.*')", str(error))
    return f"redis-py knows no option {option[1]}" if option else str(error)


def sync_from_url(url: str) -> redis.Redis:
    pool = redis.ConnectionPool.from_url(
        check_url(url),
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        max_connections=MAX_SYNC,
        retry=Retry(_backoff(), RETRIES),
    )
    return redis.Redis.from_pool(pool)  # it is closed with its client


def _patience() -> AsyncRetry:
    """Connecting is tried again where it is refused, not where a server says nothing: that has cost a time-out."""
    return AsyncRetry(_backoff(), RETRIES, (RedisConnectionError,))


def async_from_url(url: str) -> redis.asyncio.Redis:
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        check_url(url),
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        max_connections=MAX_ASYNC,
        timeout=None,
        retry=_patience(),
    )
    return redis.asyncio.Redis.from_pool(pool)


def _portable(client: Any, wanted: str) -> tuple[type, dict[str, Any]]:
    pool: Any = getattr(client, "connection_pool", None)
    kind = getattr(pool, "connection_class", None)
    names = {cls.__name__ for cls in kind.__mro__} if isinstance(kind, type) else set()
    if "SentinelManagedConnection" in names or not names & {"AbstractConnection"}:
        raise CachifyInitError(
            f"only one client was given, and no {wanted} client can be derived from a {type(client).__name__}: "
            f"give init_cachify() both sync_client and async_client"
        )
    module = redis.asyncio.connection if wanted == "async" else redis.connection
    chosen = next(
        getattr(module, name) for name in ("SSLConnection", "UnixDomainSocketConnection", "Connection") if name in names
    )
    given = {k: v for k, v in pool.connection_kwargs.items() if k in PORTABLE and v is not None}
    return chosen, {"connection_class": chosen, **given}


def sync_like(client: Any) -> redis.Redis:
    """A synchronous client to where the given client goes."""
    _, kwargs = _portable(client, "sync")
    kwargs |= {"max_connections": MAX_SYNC, "retry": Retry(_backoff(), RETRIES)}
    return redis.Redis.from_pool(redis.ConnectionPool(**kwargs))


def async_like(client: Any) -> redis.asyncio.Redis:
    """An asyncio client to where the given client goes."""
    _, kwargs = _portable(client, "async")
    kwargs |= {"max_connections": MAX_ASYNC, "timeout": None, "retry": _patience()}
    return redis.asyncio.Redis.from_pool(redis.asyncio.BlockingConnectionPool(**kwargs))


def client_of_pool(pool: object) -> redis.asyncio.Redis | None:
    """An asyncio client to where the connections of a pool go; None: it is no pool of redis-py for asyncio."""
    if not isinstance(pool, redis.asyncio.ConnectionPool):
        return None
    own = redis.asyncio.ConnectionPool(connection_class=pool.connection_class, **pool.connection_kwargs)
    return redis.asyncio.Redis(connection_pool=own)


def new_connection(client: Any) -> Any:
    """A connection to where this client goes, not connected yet, for us alone.

    The client's own pool does not know of it: it counts neither against its `max_connections` nor is it lent to others.
    """
    pool = client.connection_pool
    return pool.connection_class(**pool.connection_kwargs)


def decodes(client: Any) -> bool:
    """Does this client turn replies into text? Then pickled values cannot pass through it."""
    kwargs = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})
    return bool(kwargs.get("decode_responses"))


def layout_of(*given: Any) -> Layout:
    """Where the keys of a store are, by the kind of its clients. Those not given are None."""
    kinds = (redis.RedisCluster, redis.asyncio.RedisCluster)
    return "cluster" if any(isinstance(client, kinds) for client in given) else "single"


def check_client(name: str, client: Any, *, is_async: bool) -> None:
    """Refuse what is not a redis-py client of the right kind, early.

    Raises:
        TypeError: it has no `evalsha`, or it is of the other kind.
    """
    evalsha = getattr(client, "evalsha", None)
    execute = getattr(client, "execute_command", None)
    if evalsha is None or execute is None:
        raise TypeError(
            f"{name} must be a redis-py client (its scripts run in the server), not {type(client).__name__}; "
            "without any client the memory of this process is used"
        )
    if inspect.iscoroutinefunction(execute) is not is_async:
        kind = "an asyncio" if is_async else "a synchronous"
        raise TypeError(f"{name} must be {kind} redis-py client, not {type(client).__module__} {type(client).__name__}")
