"""The general pool: at most `max_size` at a time, per key, over all processes that share the store."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal, ParamSpec, Protocol, TypeVar, cast, overload

from ._core.admission import adopter
from ._core.calls import Policy
from ._core.commands import Reply, Size
from ._core.flows import Flow, leave
from ._core.template import KeyTemplate, check_key, signature_of
from ._io.calls import asking, call_flow
from ._io.engine import Engine, global_engine
from ._io.slot import Slot, current
from .errors import CachifyPoolFullError
from .settings import UNSET, Seconds, Unset, milliseconds
from .strategies import CachedFallback, Callback, Drop, Raise, Reschedule, as_strategy, check_count

__all__ = ["AsyncPoolWrappedF", "Pool", "SyncPoolWrappedF", "WrappedFunctionPool", "pool", "pooled"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")


class SyncPoolWrappedF(Protocol[P, R_co]):
    """A function in a pool."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    def size(self, *args: P.args, **kwargs: P.kwargs) -> int:
        """How many slots are held in the pool that this call would use."""


class AsyncPoolWrappedF(Protocol[P, R_co]):
    """A coroutine function in a pool."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...

    def size(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[int]:
        """How many slots are held in the pool that this call would use."""


class WrappedFunctionPool(Protocol):
    """What `@pooled` makes of functions; the types of both kinds."""

    @overload  # a coroutine function matches both; the first one counts
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncPoolWrappedF[P, R | None]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncPoolWrappedF[P, R | None]: ...


class _AlwaysPool(Protocol):
    """As `WrappedFunctionPool`, where no strategy can drop the call."""

    @overload  # as above
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncPoolWrappedF[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncPoolWrappedF[P, R]: ...


def slot_exp_ms(value: Seconds | Unset | None) -> int | Unset | None:
    if value is None or isinstance(value, Unset):
        return value
    return milliseconds("slot_exp", value)


class _Entry:
    """One entry into a pool: who made it, where, its slot, and which one was current before."""

    __slots__ = ("before", "engine", "slot", "who")

    def __init__(self, who: object, engine: Engine, slot: Slot | None) -> None:
        self.who, self.engine, self.slot = who, engine, slot
        self.before = current.get()


class Pool:
    """A named limit, as a context manager and a decorator.

    Entered when it is full it raises. One object may be entered many times at once: nested, by several threads or
    tasks, and left by another task than entered it; every entry has a slot of its own.

    Args:
        key: the pool's name, used as it is. Pools of one name are one pool wherever they are made.
        max_size: the most holders at once, an int of at least 1. Where two are given for one name, the last one counts.
        slot_exp: seconds after which a slot counts no more, renewed or not; None: no such limit. Not given: the default
            of `init_cachify`. Without it a slot is renewed as long as its process lives.

    Raises:
        TypeError, ValueError: a value cannot be taken; the message names it.

    Example:
        >>> from cachify_tasks import init_cachify, pool
        >>> cachify = init_cachify()
        >>> with pool("reports", max_size=2) as slot:
        ...     slot.key
        'reports'
    """

    def __init__(
        self,
        key: str,
        max_size: int,
        slot_exp: Seconds | Unset | None = UNSET,
        *,
        _engine: Engine | None = None,
        _shows: bool = True,
    ) -> None:
        self._key = check_key(key)
        try:
            self._max_size = check_count("max_size", max_size)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error} (pool {key!r})") from None
        self._slot_exp_ms = slot_exp_ms(slot_exp)
        self._bound = _engine
        self._lock = threading.Lock()
        self._inside: dict[object, list[_Entry]] = {}
        self._shows = _shows  # is its slot the current one of the code that enters it

    @property
    def _engine(self) -> Engine:
        return self._bound or global_engine()

    def size(self) -> int:
        """How many slots are held now, expired ones not counted."""
        return cast("int", self._engine.store.execute(Size(self._key)))

    async def asize(self) -> int:
        """`size` for code in an event loop."""
        return cast("int", await self._engine.store.aexecute(Size(self._key)))

    def pooled(self, on_full: Any = UNSET, raise_on_full: bool = False) -> WrappedFunctionPool:
        """A decorator that puts a function into this pool; its key is used as it is."""
        return _Decorator(
            self._key.replace("{", "{{").replace("}", "}}"),
            self._max_size, on_full, raise_on_full, self._slot_exp_ms, self._bound,
        )  # fmt: skip

    def __enter__(self) -> Slot:
        # Nothing is called once the slot is there: a signal would strike in that call.
        return self._engine.run(self._enter(threading.get_ident()))

    def __exit__(self, *exc_info: object) -> None:
        claim: list[_Entry] = []
        try:
            entry = self._claimed(threading.get_ident(), claim)
            entry.engine.run(_leave(entry))
        except BaseException:  # perhaps a signal struck; twice is as good as once
            entry = self._claimed(threading.get_ident(), claim)
            entry.engine.run(_leave(entry))
            raise

    async def __aenter__(self) -> Slot:
        return await self._engine.arun(self._enter(_task_id()))

    async def __aexit__(self, *exc_info: object) -> None:
        task = _task_id()
        entry = self._claimed(task, [])
        if task is not None:
            await entry.engine.arun(_leave(entry))
        elif entry.slot is not None:  # a generator thrown away after its event loop: nothing can be awaited
            entry.engine.ended(entry.slot)

    def _enter(self, who: object) -> Flow[Slot]:
        engine = self._engine
        found = yield from asking(engine, engine.ask(self._key, self._max_size, self._slot_exp_ms, ""))
        entry = None
        try:
            if isinstance(found, Reply):
                raise CachifyPoolFullError(
                    f"pool {self._key!r} is full: {found.held} of {found.limit} slots are taken; wait, raise max_size, "
                    "or give @pooled an on_full",
                    self._key, found.limit, found.held,
                )  # fmt: skip
            entry = _Entry(who, engine, found)
            with self._lock:
                self._inside.setdefault(who, []).append(entry)
            if self._shows:
                current.set(found)
        except BaseException:
            if isinstance(found, Slot):
                yield from _leave(self._claimed(who, [entry or _Entry(who, engine, found)]))
            raise
        return found  # type: ignore[no-any-return]  # None where `on_store_error` says "run"

    def _claimed(self, who: object, claim: list[_Entry]) -> _Entry:
        """The entry that is left: the claimed one, or else this thread's or task's newest, or else another's newest."""
        with self._lock:
            if not claim:
                stack = self._inside.get(who) or next(reversed(self._inside.values()), None)
                if stack is None:
                    raise RuntimeError(f"pool {self._key!r} is left more often than it was entered")
                claim.append(stack[-1])
            entry = claim[0]
            stack = self._inside.get(entry.who, [])
            if entry in stack:
                stack.remove(entry)
            if not stack:
                self._inside.pop(entry.who, None)
        return entry

    def __repr__(self) -> str:
        return f"<Pool {self._key!r} max_size={self._max_size}>"


def _task_id() -> int | None:
    """Names the running task, and keeps nothing of it alive; None: there is none."""
    try:
        return id(asyncio.current_task())
    except RuntimeError:
        return None


def _leave(entry: _Entry) -> Flow[None]:
    """Free an entry's slot, where it was granted: `init_cachify` may have been called again since."""
    if entry.slot is not None:
        yield from leave(entry.engine, entry.slot)
    if current.get() is entry.slot:  # else it is left by another context than entered it, or not in turn
        current.set(entry.before)


class _Decorator:
    """What `pooled(...)` returns; it checks everything that it was given at once."""

    def __init__(
        self,
        key: str,
        max_size: int,
        on_full: Any,
        raise_on_full: bool,
        slot_exp_ms: int | Unset | None,
        engine: Engine | None,
    ) -> None:
        check_key(key)
        try:
            self._max_size = check_count("max_size", max_size)
            self._on_full = Raise() if raise_on_full else as_strategy(on_full)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error} (pool {key!r})") from None
        self._key, self._engine, self._slot_exp_ms = key, engine, slot_exp_ms

    def __call__(self, function: Any) -> Any:
        adopt = adopter(function)
        if adopt is not None:
            return adopt(function, self)
        if not callable(function) or isinstance(function, staticmethod | classmethod):
            raise TypeError(
                f"@pooled (pool {self._key!r}) decorates functions, not {function!r}; put it below @classmethod, "
                "@staticmethod and @property"
            )
        signature = signature_of(function)
        name = getattr(function, "__qualname__", type(function).__name__)
        policy = Policy(
            function=function, key=KeyTemplate(self._key, signature), max_size=self._max_size, on_full=self._on_full,
            slot_exp_ms=self._slot_exp_ms, engine=self._engine, name=name,
        )  # fmt: skip
        recall = policy.keeps()
        if recall is not None and recall.key is not None:
            policy.recalls[recall.key] = KeyTemplate(recall.key, signature)
        return _wrapped(policy, signature)


def _wrapped(policy: Policy, signature: inspect.Signature) -> Any:
    function = policy.function
    wrapper: Any
    if inspect.isasyncgenfunction(function):

        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            async with _generator_pool(policy, args, kwargs) as slot:
                items = function(*args, **kwargs)
                step = items.__anext__()
                try:
                    while True:
                        try:
                            item = await _Steps(step.__await__(), slot)
                        except StopAsyncIteration:
                            return
                        try:
                            sent = yield item
                        except GeneratorExit:
                            raise
                        except BaseException as error:  # noqa: BLE001  # the generator decides what to do with it
                            step = items.athrow(error)
                        else:
                            step = items.asend(sent)
                finally:
                    await _Steps(items.aclose().__await__(), slot)

    elif inspect.isgeneratorfunction(function):

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with _generator_pool(policy, args, kwargs) as slot:
                return (yield from _Steps(function(*args, **kwargs), slot))

    elif _is_coroutine_function(function):

        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            engine, flow = call_flow(policy, args, kwargs)
            return await engine.arun(flow)

    else:

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            engine, flow = call_flow(policy, args, kwargs)
            return engine.run(flow)

    functools.update_wrapper(wrapper, function)
    wrapper.__signature__ = signature
    wrapper.__cachify__ = policy
    wrapper.size = size_of(policy)
    return wrapper


def _is_coroutine_function(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _generator_pool(policy: Policy, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pool:
    """The slot of a generator is held until it is exhausted or closed; full, its first item raises."""
    exp = policy.slot_exp_ms
    seconds = exp / 1000 if isinstance(exp, int) else exp
    return Pool(policy.key.resolve(args, kwargs), policy.max_size, seconds, _engine=policy.engine, _shows=False)


class _Steps:
    """A generator (or an awaitable's) with its slot as the current one in each of its steps, not in its consumer's."""

    __slots__ = ("_items", "_slot")

    def __init__(self, items: Any, slot: Slot | None) -> None:
        self._items, self._slot = items, slot

    def __iter__(self) -> _Steps:
        return self

    __await__ = __iter__

    def __next__(self) -> Any:
        return self._step(self._items.__next__)

    def send(self, value: Any) -> Any:
        return self._step(self._items.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._items.throw, *error)

    def close(self) -> None:
        self._step(self._items.close)

    def _step(self, do: Callable[..., Any], *args: Any) -> Any:
        before = current.get()
        try:
            current.set(self._slot)
            return do(*args)
        finally:
            current.set(before)


def size_of(policy: Policy) -> Callable[..., Any]:
    def size(*args: Any, **kwargs: Any) -> int:
        engine = policy.engine or global_engine()
        return cast("int", engine.store.execute(Size(policy.key.resolve(args, kwargs))))

    async def asize(*args: Any, **kwargs: Any) -> int:
        engine = policy.engine or global_engine()
        return cast("int", await engine.store.aexecute(Size(policy.key.resolve(args, kwargs))))

    asynchronous = _is_coroutine_function(policy.function) or inspect.isasyncgenfunction(policy.function)
    return asize if asynchronous else size


def pool(key: str, max_size: int, slot_exp: Seconds | Unset | None = UNSET) -> Pool:
    """A pool of the global store: see `Pool`.

    Example:
        >>> from cachify_tasks import init_cachify, pool
        >>> cachify = init_cachify()
        >>> with pool(key="reports", max_size=3):
        ...     pool(key="reports", max_size=3).size()
        1
    """
    return Pool(key, max_size, slot_exp)


@overload
def pooled(
    key: str,
    max_size: int,
    on_full: Any = ...,
    *,
    raise_on_full: Literal[True],
    slot_exp: Seconds | Unset | None = ...,
) -> _AlwaysPool: ...
@overload
def pooled(
    key: str, max_size: int, on_full: Raise | Reschedule | CachedFallback, raise_on_full: bool = ...,
    slot_exp: Seconds | Unset | None = ...,
) -> _AlwaysPool: ...  # fmt: skip
@overload
def pooled(
    key: str, max_size: int, on_full: Drop | Callback | Callable[..., Any] | Unset | None = ...,
    raise_on_full: bool = ...,
    slot_exp: Seconds | Unset | None = ...,
) -> WrappedFunctionPool: ...  # fmt: skip
def pooled(
    key: str,
    max_size: int,
    on_full: Any = UNSET,
    raise_on_full: bool = False,
    slot_exp: Seconds | Unset | None = UNSET,
) -> Any:
    """At most `max_size` calls at a time per key, over all processes that share the store.

    Args:
        key: the pool's name; fields such as `{user_id}` are filled from the call's arguments, `{user.id}` from their
            attributes or items, `{}` and `{0}` from `*args`.
        max_size: the most calls at once, an int of at least 1.
        on_full: the strategy when all slots are taken, or a callable that gets the call's own arguments and whose
            result is returned. None: answer None. Not given: a plain call answers None, a task `default_on_full`.
        raise_on_full: raise `CachifyPoolFullError`, whatever `on_full` says.
        slot_exp: seconds after which a slot counts no more, renewed or not; None: no such limit. Without it a slot is
            renewed as long as its process lives.

    Returns:
        A decorator. The function gets `.size(*args, **kwargs)`: how many slots are held in the pool that such a call
        would use (a coroutine on async functions). A generator function holds its slot until it is exhausted or closed.

    Raises:
        TypeError, ValueError: a value cannot be taken, or the key names no argument of the function.

    Example:
        >>> from cachify_tasks import init_cachify, pooled
        >>> cachify = init_cachify()
        >>> @pooled(key="user-{user_id}", max_size=2, raise_on_full=True)
        ... def greet(user_id: str) -> str:
        ...     return f"hello, {user_id}"
        >>> greet("ann"), greet.size("ann")
        ('hello, ann', 0)
    """
    return _Decorator(key, max_size, on_full, raise_on_full, slot_exp_ms(slot_exp), None)
