"""The general pool: at most `max_size` at a time, per key, over all processes that share the store."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal, ParamSpec, Protocol, TypeVar, cast, overload

from ._core.admission import Admission, admission, adopter
from ._core.calls import Policy
from ._core.commands import Get, Put, Reply, Size
from ._core.decisions import Decision, Defer, FullPool, Invoke, RaiseFull, Recall, Skip
from ._core.flows import Flow, Run, enter, hold, leave, patient
from ._core.template import KeyTemplate, check_key, signature_of
from ._io.engine import Engine, global_engine
from ._io.slot import Slot, current, leave_current
from .errors import CachifyPoolFullError, CachifyStoreError
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
    """One entry into a pool: who made it, its slot, and how to restore what was current before."""

    __slots__ = ("slot", "token", "who")

    def __init__(self, who: object, slot: Slot | None) -> None:
        self.who, self.slot = who, slot
        self.token: Any = None


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
        return cast("Slot", self._engine.run(self._enter(threading.get_ident())))

    def __exit__(self, *exc_info: object) -> None:
        claim: list[_Entry] = []
        try:
            self._engine.run(self._leave(threading.get_ident(), claim))
        except BaseException:
            self._engine.run(self._leave(threading.get_ident(), claim))  # a signal struck; twice is as good as once
            raise

    async def __aenter__(self) -> Slot:
        return cast("Slot", await self._engine.arun(self._enter(asyncio.current_task())))

    async def __aexit__(self, *exc_info: object) -> None:
        await self._engine.arun(self._leave(asyncio.current_task(), []))

    def _enter(self, who: object) -> Flow[Slot | None]:
        engine = self._engine
        found = yield from _ask(engine, engine.ask(self._key, self._max_size, self._slot_exp_ms, ""))
        entry = None
        try:
            if isinstance(found, Reply):
                raise CachifyPoolFullError(
                    f"pool {self._key!r} is full: {found.held} of {found.limit} slots are taken; wait, raise max_size, "
                    "or give @pooled an on_full",
                    self._key, found.limit, found.held,
                )  # fmt: skip
            entry = _Entry(who, found)
            with self._lock:
                self._inside.setdefault(who, []).append(entry)
            entry.token = current.set(found) if self._shows else None
        except BaseException:
            if isinstance(found, Slot):
                yield from self._leave(who, [entry or _Entry(who, found)])
            raise
        return cast("Slot | None", found)

    def _leave(self, who: object, claim: list[_Entry]) -> Flow[None]:
        """Free the slot of the claimed entry. None claimed: of this thread's or task's newest, else of another's."""
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
        if entry.slot is not None:
            yield from leave(self._engine, entry.slot)
        token, entry.token = entry.token, None
        if token is not None:
            leave_current(token)

    def __repr__(self) -> str:
        return f"<Pool {self._key!r} max_size={self._max_size}>"


def _ask(engine: Engine, ask: Any) -> Flow[Any]:
    """`enter`, with what `on_store_error` says of plain calls: None is "go on without a slot"."""
    choice = engine.settings.on_store_error

    def waits(error: CachifyStoreError) -> bool:
        if choice == "retry":
            engine.unreachable(error, f"acquiring a slot of {ask.pool!r}, trying again")
        return choice == "retry"

    try:
        return (yield from patient(lambda: enter(engine, ask), waits))
    except CachifyStoreError as error:
        if choice != "run":
            raise
        engine.unreachable(error, f"acquiring a slot of {ask.pool!r}, running without one")
        return None


def call_flow(policy: Policy, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Engine, Flow[Any]]:
    """The engine and the flow of one call of a gated function."""
    admitted = admission(policy)
    if admitted is not None and not admitted.inline:
        return admitted.engine, _admitted(policy, admitted, args, kwargs)
    engine = admitted.engine if admitted else policy.engine or global_engine()
    return engine, _gated(policy, engine, args, kwargs, admitted.default if admitted else UNSET)


def _gated(policy: Policy, engine: Engine, args: tuple[Any, ...], kwargs: dict[str, Any], default: Any) -> Flow[Any]:
    key = policy.key.resolve(args, kwargs)
    keep = _keeping(policy, default, args, kwargs)
    ask = engine.ask(key, policy.max_size, policy.slot_exp_ms, policy.name)

    def inside(found: Any) -> Flow[Any]:
        if isinstance(found, Reply):
            full = FullPool(key, found.limit, found.held)
            decision = policy.decide(full, default)
            engine.full(key, found.limit, f"{policy.name} -> {type(decision).__name__}")
            return (yield from _answer(policy, decision, args, kwargs, full)), False
        return (yield from _run(policy, found, args, kwargs)), True

    result, ran = yield from hold(engine, _ask(engine, ask), inside)
    if ran and keep is not None:
        yield from _remember(engine, *keep, result)
    return result


def _run(policy: Policy, slot: Slot | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Flow[Any]:
    """Run the function; `current_slot()` in it is this slot."""
    token = current.set(slot)
    try:
        return (yield Run(policy.function, args, kwargs))
    finally:
        leave_current(token)


def _admitted(policy: Policy, admitted: Admission, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Flow[Any]:
    """The worker's main process has asked already, and holds the slot."""
    if admitted.decision is not None and admitted.full is not None:
        return (yield from _answer(policy, admitted.decision, args, kwargs, admitted.full))
    keep = _keeping(policy, admitted.default, args, kwargs)
    result = yield from _run(policy, admitted.slot, args, kwargs)
    if keep is not None:
        yield from _remember(admitted.engine, *keep, result)
    return result


def _answer(
    policy: Policy, decision: Decision, args: tuple[Any, ...], kwargs: dict[str, Any], full: FullPool
) -> Flow[Any]:
    """Act on a decision where the function would have run."""
    match decision:
        case RaiseFull(why):
            raise _full_error(full, why)
        case Skip(result):
            return None if result is UNSET else result
        case Defer():
            raise _full_error(full, "it can be rescheduled only by a worker, and this call is not made by one")
        case Invoke(callback):
            return (yield Run(callback, _own(policy, args), kwargs))
        case Recall(default=default):
            value = yield Get(policy.memory_key(decision, args, kwargs))
            if value is not None:
                return pickle.loads(value)
            if default is UNSET:
                raise _full_error(full, "there is no earlier result of this call, and no default")
            return default


def _full_error(full: FullPool, why: str) -> CachifyPoolFullError:
    message = f"pool {full.key!r} is full: {full.held} of {full.limit} slots are taken{'; ' * bool(why)}{why}"
    return CachifyPoolFullError(message, full.key, full.limit, full.held)


def _own(policy: Policy, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The call's own arguments: without the Task instance that Celery puts in front for `bind=True`."""
    run = getattr(args[0], "run", None) if args else None
    bound = getattr(run, "__self__", None) is not None and getattr(run, "__cachify__", None) is policy
    return args[1:] if bound else args


def _keeping(
    policy: Policy, default: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[str, int | None] | None:
    """Where and how long this call's result is kept, if it is; found before the run, which an error must not follow."""
    recall = policy.keeps(default)
    return None if recall is None else (policy.memory_key(recall, args, kwargs), recall.ttl_ms)


def _remember(engine: Engine, name: str, ttl_ms: int | None, result: Any) -> Flow[None]:
    try:
        value = pickle.dumps(result)
    except Exception as error:  # noqa: BLE001  # whatever a result raises when it is pickled; the run has succeeded
        engine.unkept(name, error)
        return
    try:
        yield Put(name, value, ttl_ms)
    except CachifyStoreError as error:
        engine.unreachable(error, "keeping a last good result")


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
        token = current.set(self._slot)
        try:
            return do(*args)
        finally:
            leave_current(token)


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
