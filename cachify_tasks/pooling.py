"""The general pool: at most `max_size` at a time, per key, over all processes that share the store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from typing import Any, Literal, TypeAlias, overload

from ._adapters import adopter
from ._checks import MOST, Seconds, count, flag, milliseconds
from ._core.decisions import Strategy, Waiting
from ._core.flows import Flow, size
from ._core.key_template import KeyTemplate, check_key, signature_of
from ._core.policy import Policy
from ._core.typing import AlwaysPool, AsyncPoolWrappedF, P, R, SyncPoolWrappedF, T, WrappedFunctionPool
from ._runtime.acquired_slot import AcquiredSlot, PendingAcquire
from ._runtime.acquiring import taking
from ._runtime.direct_calls import acquire_command
from ._runtime.entries import Entries, Entry, running_task
from ._runtime.instances import global_runtime
from ._runtime.runtime import Runtime
from ._runtime.slot import Slot
from ._runtime.wrappers import pooled_wrapper
from .settings import UNSET, Unset
from .strategies import CachedFallback, Callback, Drop, Park, Raise, Refusing, Reschedule, Wait, as_strategy

__all__ = ["AsyncPoolWrappedF", "Pool", "SyncPoolWrappedF", "WrappedFunctionPool", "pool", "pooled"]

OnFull: TypeAlias = Strategy | Callable[..., object] | Refusing | Literal["drop"] | Unset | None


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
    on_full: OnFull = ...,
    *,
    raise_on_full: Literal[True],
    slot_exp: Seconds | Unset | None = ...,
) -> AlwaysPool: ...
@overload
def pooled(
    key: str, max_size: int, on_full: Raise | Reschedule | CachedFallback | Park | Wait | Refusing,
    raise_on_full: bool = ..., slot_exp: Seconds | Unset | None = ...,
) -> AlwaysPool: ...  # fmt: skip
@overload
def pooled(
    key: str, max_size: int, on_full: Drop | Callback | Callable[..., object] | Literal["drop"] | Unset | None = ...,
    raise_on_full: bool = ..., slot_exp: Seconds | Unset | None = ...,
) -> WrappedFunctionPool: ...  # fmt: skip
def pooled(
    key: str,
    max_size: int,
    on_full: OnFull = UNSET,
    raise_on_full: bool = False,
    slot_exp: Seconds | Unset | None = UNSET,
) -> object:
    """At most `max_size` calls at a time per key, over all processes that share the store.

    Args:
        key: the pool's name; fields such as `{user_id}` are filled from the call's arguments, `{user.id}` from their
            attributes or items, `{}` and `{0}` from `*args`.
        max_size: the most calls at once, an int of at least 1.
        on_full: the strategy when all slots are taken, or its name (`"drop"`), or a callable that gets the call's own
            arguments and whose result is returned. None: return None. Not given: a direct call returns None, a task
            does what the setting `default_on_full` says: it is parked, if that is not given either.
        raise_on_full: raise `CachifyPoolFullError`, whatever `on_full` says.
        slot_exp: seconds after which a slot no longer counts, renewed or not; None: no such limit. Without it a slot is
            renewed as long as its process lives.

    Returns:
        A decorator. The function gets `.size(*args, **kwargs)`: how many slots are held in the pool that such a call
        would use (a coroutine on async functions). A generator function holds its slot until it is exhausted or closed.

    Raises:
        TypeError, ValueError: a value cannot be used, or the key names no argument of the function.

    Example:
        >>> from cachify_tasks import init_cachify, pooled
        >>> cachify = init_cachify()
        >>> @pooled(key="user-{user_id}", max_size=2, raise_on_full=True)
        ... def greet(user_id: str) -> str:
        ...     return f"hello, {user_id}"
        >>> greet("ann"), greet.size("ann")
        ('hello, ann', 0)
    """
    return PooledDecorator(key, max_size, on_full, raise_on_full=raise_on_full, slot_exp_ms=slot_exp_ms(slot_exp))


class Pool:
    """A named limit, as a context manager and a decorator.

    To enter it when it is full raises `CachifyPoolFullError`. One object may be entered many times at once: nested, by
    several threads or tasks, and left by another task than entered it; every entry has a slot of its own.

    Args:
        key: the pool's name, used as it is. Pools of one name are one pool wherever they are made.
        max_size: the most holders at once, an int of at least 1. Where two are given for one name, a worker's
            counts, else the last one.
        slot_exp: seconds after which a slot no longer counts, renewed or not; None: no such limit. Not given: the
            default of `init_cachify`. Without it a slot is renewed as long as its process lives.

    Raises:
        TypeError, ValueError: a value cannot be used; the message names it.

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
        _runtime: Runtime | None = None,
        _waits: Waiting | None = None,
        _shows: bool = True,
    ) -> None:
        self._key = check_key(key)
        self._max_size = _checked_size(max_size, key)
        self._slot_exp_ms = slot_exp_ms(slot_exp)
        self._bound = _runtime
        self._waits = _waits
        self._shows = _shows  # does its slot become the current one of the code that enters it
        self._entries = Entries()

    def size(self) -> int:
        """How many slots are held now, without expired ones."""
        return self._runtime.run(size(self._key))

    async def asize(self) -> int:
        """`size` for code in an event loop."""
        return await self._runtime.arun(size(self._key))

    def acquire(self, timeout: Seconds | None = None) -> AcquiredSlot:
        """Take a slot now, and wait for it in the pool's queue, where tasks are parked: in the order of arrival.

        Args:
            timeout: the longest wait, in seconds; 0: do not wait; None: no limit.

        Returns:
            AcquiredSlot: has `slot` and `release()`. As a context manager it releases at the end of its block, and in
            the block the slot is the current one.

        Raises:
            CachifyPoolFullError: there was none in time.

        Example:
            >>> from cachify_tasks import init_cachify, pool
            >>> cachify = init_cachify()
            >>> with pool("reports", max_size=2).acquire(timeout=5) as slot:
            ...     slot.key
            'reports'
        """
        runtime = self._runtime
        acquired = AcquiredSlot(runtime)
        runtime.run(self._acquiring(acquired, runtime, _waiting(timeout)))
        return acquired

    def aacquire(self, timeout: Seconds | None = None) -> PendingAcquire:
        """`acquire` for code in an event loop: `async with p.aacquire(5) as slot`, or `held = await p.aacquire(5)`."""
        runtime = self._runtime
        waiting = _waiting(timeout)
        return PendingAcquire(runtime, lambda acquired: self._acquiring(acquired, runtime, waiting))

    def pooled(self, on_full: OnFull = UNSET, raise_on_full: bool = False) -> WrappedFunctionPool:
        """A decorator that puts a function into this pool; its key is used as it is."""
        return PooledDecorator(
            self._key.replace("{", "{{").replace("}", "}}"), self._max_size, on_full, raise_on_full=raise_on_full,
            slot_exp_ms=self._slot_exp_ms, runtime=self._bound,
        )  # fmt: skip

    def __enter__(self) -> Slot:
        return self._runtime.run(self._entering(threading.get_ident()))

    def __exit__(self, *exc_info: object) -> None:
        claimed: list[Entry] = []
        try:
            entry = self._claim(threading.get_ident(), claimed)
            entry.release()
        except BaseException:  # perhaps a signal struck anywhere in there: all of it may be done twice
            entry = self._claim(threading.get_ident(), claimed)
            entry.release()
            raise

    async def __aenter__(self) -> Slot:
        return await self._runtime.arun(self._entering(running_task()))

    async def __aexit__(self, *exc_info: object) -> None:
        task = running_task()
        entry = self._claim(task, [])
        if task is None:  # a generator thrown away after its event loop: nothing can be awaited
            entry.abandon()
        else:
            await entry.arelease()

    @property
    def _runtime(self) -> Runtime:
        return self._bound or global_runtime()

    def _acquiring(self, acquired: AcquiredSlot, runtime: Runtime, waiting: Waiting) -> Flow[Slot | None]:
        request = acquire_command(runtime, pool=self._key, limit=self._max_size, slot_exp_ms=self._slot_exp_ms)
        return taking(runtime, request, waiting, acquired)

    def _entering(self, who: object) -> Flow[Slot]:
        runtime = self._runtime
        request = acquire_command(runtime, pool=self._key, limit=self._max_size, slot_exp_ms=self._slot_exp_ms)
        entry = Entry(self._entries, who, runtime, shows=self._shows)
        return taking(runtime, request, self._waits, entry)  # type: ignore[return-value]  # None, if settings say "run"

    def _claim(self, who: object, claimed: list[Entry]) -> Entry:
        entry = self._entries.claim(who, claimed)
        if entry is None:
            raise RuntimeError(f"pool {self._key!r} is left more often than it was entered")
        entry.leave_context()
        return entry

    def __repr__(self) -> str:
        return f"<Pool {self._key!r} max_size={self._max_size}>"


class PooledDecorator:
    """What `pooled(...)` returns; it checks everything that it was given at once."""

    def __init__(
        self,
        key: str,
        max_size: int,
        on_full: OnFull,
        *,
        raise_on_full: bool,
        slot_exp_ms: int | Unset | None,
        runtime: Runtime | None = None,
    ) -> None:
        self._key = check_key(key)
        self._max_size = _checked_size(max_size, key)
        try:
            self._on_full = Raise() if flag("raise_on_full", raise_on_full) else as_strategy(on_full)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error} (pool {key!r})") from None
        self._slot_exp_ms = slot_exp_ms
        self._runtime = runtime

    @overload  # what matches several counts as the first one
    def __call__(self, task: T, /) -> T: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncPoolWrappedF[P, R | None]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncPoolWrappedF[P, R | None]: ...
    def __call__(self, function: object, /) -> object:
        adopt = adopter(function)
        return self._decorate(function) if adopt is None else adopt(function, self._decorate)

    def _decorate(self, function: object) -> object:
        if not callable(function) or isinstance(function, staticmethod | classmethod):
            raise TypeError(
                f"@pooled (pool {self._key!r}) decorates functions, not {function!r}; put it below @classmethod, "
                "@staticmethod and @property"
            )
        signature = signature_of(function)
        policy = Policy(
            function=function, key=KeyTemplate(self._key, signature), max_size=self._max_size, on_full=self._on_full,
            slot_exp_ms=self._slot_exp_ms, runtime=self._runtime,
            name=getattr(function, "__qualname__", type(function).__name__),
        )  # fmt: skip
        recall = policy.keeps()
        if recall is not None and recall.key is not None:
            policy.result_template(recall.key)  # a wrong one fails now
        return pooled_wrapper(policy, signature, _generator_pool)


def _generator_pool(policy: Policy, args: tuple[object, ...], kwargs: dict[str, object]) -> Pool:
    """The slot of a generator is held until it is exhausted or closed; if the pool is full, its first item raises."""
    exp, key = policy.slot_exp_ms, policy.key.resolve(args, kwargs)
    seconds = exp / 1000 if isinstance(exp, int) else exp
    return Pool(key, policy.max_size, seconds, _runtime=policy.runtime, _waits=policy.waits(), _shows=False)


def slot_exp_ms(value: Seconds | Unset | None) -> int | Unset | None:
    """The hard limit of slots in milliseconds; None and UNSET stay."""
    if value is None or isinstance(value, Unset):
        return value
    return milliseconds("slot_exp", value)


def _waiting(timeout: Seconds | None) -> Waiting:
    return Waiting(None if timeout is None else milliseconds("timeout", timeout, minimum=0))


def _checked_size(max_size: object, key: str) -> int:
    try:
        return count("max_size", max_size, most=MOST)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error} (pool {key!r})") from None
