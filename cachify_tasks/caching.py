"""`cached`: keep a function's results in the store and return them to later calls."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, overload

from ._checks import Seconds, milliseconds
from ._core.flows import Flow, Run
from ._core.key_commands import Delete, Get, Put
from ._core.key_template import KeyTemplate, check_key, signature_of
from ._core.typing import AsyncCachedF, CachedFunction, P, R, SyncCachedF
from ._runtime.events import ResultNotKept, StoreUnreachable
from ._runtime.instances import global_runtime
from ._runtime.runtime import Runtime
from ._runtime.wrappers import dressed, flow_function, is_coroutine_function
from .errors import CachifyStoreError
from .settings import UNSET, Unset

__all__ = ["Decoder", "Encoder", "cached"]

Encoder: TypeAlias = Callable[..., object]
Decoder: TypeAlias = Callable[..., object]


def cached(
    key: str, ttl: Seconds | Unset | None = UNSET, enc_dec: tuple[Encoder, Decoder] | None = None
) -> CachedFunction:
    """Keep a function's results in the store and return them to later calls.

    Two calls that run at the same time may both run the function.

    Args:
        key: names the result; fields such as `{user_id}` are filled from the call's arguments, as in `pooled`.
        ttl: seconds a result is kept; None: until `reset`. Not given: `default_cache_ttl` of `init_cachify`.
        enc_dec: two functions: the first turns a result into what is kept, the second turns that back.

    Returns:
        A decorator. The function gets `.reset(*args, **kwargs)`, which forgets the result of that call. A result of
        None is not returned to later calls; exceptions are not kept. Results are pickled: whoever can write to the
        store can run code where they are read.

    Raises:
        TypeError, ValueError: a value cannot be used, or the key names no argument of the function.

    Example:
        >>> from cachify_tasks import cached, init_cachify
        >>> cachify = init_cachify()
        >>> @cached(key="double-{n}", ttl=60)
        ... def double(n: int) -> int:
        ...     return 2 * n
        >>> double(4), double(4), double.reset(4)
        (8, 8, None)
    """
    return CachedDecorator(key, ttl, enc_dec)


class CachedDecorator:
    """What `cached(...)` returns. runtime: the one it is bound to; None: the global one at the time of the call."""

    def __init__(
        self,
        key: str,
        ttl: Seconds | Unset | None,
        enc_dec: tuple[Encoder, Decoder] | None,
        runtime: Runtime | None = None,
    ) -> None:
        self._key = check_key(key)
        self._ttl_ms = ttl if ttl is None or isinstance(ttl, Unset) else milliseconds("ttl", ttl)
        self._enc_dec = None if enc_dec is None else _checked_pair(enc_dec)
        self._bound = runtime

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a coroutine function matches both; the first one counts
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncCachedF[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncCachedF[P, R]: ...
    def __call__(self, function: object, /) -> object:
        if not callable(function) or isinstance(function, staticmethod | classmethod):
            raise TypeError(
                f"@cached (key {self._key!r}) decorates functions, not {function!r}; put it below @classmethod, "
                "@staticmethod and @property"
            )
        template = KeyTemplate(self._key, signature_of(function))
        is_async = is_coroutine_function(function)
        wrapper = flow_function(is_async, functools.partial(self._calling, function, template))
        return dressed(wrapper, function, reset=flow_function(is_async, functools.partial(self._resetting, template)))

    def _calling(
        self,
        function: Callable[..., object],
        template: KeyTemplate,
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> tuple[Runtime, Flow[object]]:
        runtime = self._runtime
        return runtime, self._call(runtime, template.resolve(args, kwargs), function, args, kwargs)

    def _call(
        self, runtime: Runtime, name: str, function: Callable[..., object], args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> Flow[object]:  # fmt: skip
        value = self._load((yield Get(name)))
        if value is None:
            value = yield Run(function, args, kwargs)
            yield from self._keep(runtime, name, value)
        return value

    def _keep(self, runtime: Runtime, name: str, value: object) -> Flow[None]:
        """The function has run: nothing that fails here is an error of the call."""
        ttl_ms = runtime.default_ttl_ms if isinstance(self._ttl_ms, Unset) else self._ttl_ms
        try:
            data = self._dump(value)
        except Exception as error:  # noqa: BLE001  # whatever a result, or the user's encoder, raises
            runtime.emit(ResultNotKept(name=name, error=error))
            return
        try:
            yield Put(name, data, ttl_ms)
        except CachifyStoreError as error:
            runtime.emit(StoreUnreachable(doing="keeping a cached value", error=error))

    def _resetting(
        self, template: KeyTemplate, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[Runtime, Flow[None]]:
        return self._runtime, _forget(template.resolve(args, kwargs))

    @property
    def _runtime(self) -> Runtime:
        return self._bound or global_runtime()

    def _dump(self, value: object) -> bytes:
        return pickle.dumps(value if self._enc_dec is None else self._enc_dec[0](value))

    def _load(self, data: object) -> object:
        if data is None:
            return None
        assert isinstance(data, bytes)
        value: object = pickle.loads(data)
        return value if value is None or self._enc_dec is None else self._enc_dec[1](value)


def _checked_pair(enc_dec: object) -> tuple[Encoder, Decoder]:
    match enc_dec:
        case (encode, decode) if callable(encode) and callable(decode):
            return encode, decode
    raise TypeError(f"enc_dec must be two functions (encode, decode) or None, not {enc_dec!r}")


def _forget(name: str) -> Flow[None]:
    yield Delete(name)
