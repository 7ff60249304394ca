"""The general pool: at most `max_size` at a time, per key, over all processes that share the store."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any, Literal, cast, overload

from ._checks import Seconds, count, milliseconds
from ._core.admission import adopter
from ._core.commands import Reply, Size
from ._core.decisions import Waiting
from ._core.flows import Flow, leave
from ._core.key_template import KeyTemplate, check_key, signature_of
from ._core.policy import Policy
from ._core.typing import AlwaysPool, AsyncPoolWrappedF, SyncPoolWrappedF, WrappedFunctionPool
from ._runtime.acquired_slot import AcquiredSlot, PendingAcquire, acquire_flow, full_error
from ._runtime.call_flow import asking
from ._runtime.runtime import Runtime, global_runtime
from ._runtime.slot import Slot, current
from ._runtime.wrappers import wrapped
from .settings import UNSET, Unset
from .strategies import CachedFallback, Callback, Drop, Park, Raise, Reschedule, Wait, as_strategy

__all__ = ["AsyncPoolWrappedF", "Pool", "SyncPoolWrappedF", "WrappedFunctionPool", "pool", "pooled"]


def slot_exp_ms(value: Seconds | Unset | None) -> int | Unset | None:
    if value is None or isinstance(value, Unset):
        return value
    return milliseconds("slot_exp", value)


_lock = threading.RLock()  # of who is inside which pool; a collected generator can leave one in the middle


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()  # a thread of the parent's may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class _Entry:
    """One entry into a pool: who made it, where, its slot, and which one was current before."""

    __slots__ = ("before", "runtime", "slot", "who")

    def __init__(self, who: object, runtime: Runtime, slot: Slot | None) -> None:
        self.who, self.runtime, self.slot = who, runtime, slot
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
        _runtime: Runtime | None = None,
        _waits: Waiting | None = None,
        _shows: bool = True,
    ) -> None:
        self._key = check_key(key)
        try:
            self._max_size = count("max_size", max_size)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error} (pool {key!r})") from None
        self._slot_exp_ms = slot_exp_ms(slot_exp)
        self._bound = _runtime
        self._inside: dict[object, list[_Entry]] = {}
        self._waits = _waits
        self._shows = _shows  # is its slot the current one of the code that enters it

    @property
    def _runtime(self) -> Runtime:
        return self._bound or global_runtime()

    def size(self) -> int:
        """How many slots are held now, expired ones not counted."""
        return cast("int", self._runtime.store.execute(Size(self._key)))

    async def asize(self) -> int:
        """`size` for code in an event loop."""
        return cast("int", await self._runtime.store.aexecute(Size(self._key)))

    def acquire(self, timeout: Seconds | None = None) -> AcquiredSlot:
        """Take a slot now, waiting for it in the pool's queue, where tasks are parked: in the order of arrival.

        Args:
            timeout: seconds to wait at most; 0: do not wait; None: for ever.

        Returns:
            Held: has `slot` and `release()`. Used as a context manager it releases, and in it the slot is the current
            one.

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
        return runtime.run(self._acquiring(runtime, timeout))

    def aacquire(self, timeout: Seconds | None = None) -> PendingAcquire:
        """`acquire` for code in an event loop: `async with p.aacquire(5) as slot`, or `held = await p.aacquire(5)`."""
        runtime = self._runtime
        return PendingAcquire(runtime, self._acquiring(runtime, timeout))

    def _acquiring(self, runtime: Runtime, timeout: Seconds | None) -> Flow[AcquiredSlot]:
        timeout_ms = None if timeout is None else milliseconds("timeout", timeout, minimum=0)
        ask = runtime.ask(self._key, self._max_size, self._slot_exp_ms, "")
        return acquire_flow(runtime, ask, Waiting(timeout_ms))

    def pooled(self, on_full: Any = UNSET, raise_on_full: bool = False) -> WrappedFunctionPool:
        """A decorator that puts a function into this pool; its key is used as it is."""
        return _Decorator(
            self._key.replace("{", "{{").replace("}", "}}"),
            self._max_size, on_full, raise_on_full, self._slot_exp_ms, self._bound,
        )  # fmt: skip

    def __enter__(self) -> Slot:
        # Nothing is called once the slot is there: a signal would strike in that call.
        return self._runtime.run(self._enter(threading.get_ident()))

    def __exit__(self, *exc_info: object) -> None:
        claim: list[_Entry] = []
        try:
            entry = self._claimed(threading.get_ident(), claim)
            entry.runtime.run(_leave(entry))
        except BaseException:  # perhaps a signal struck; twice is as good as once
            entry = self._claimed(threading.get_ident(), claim)
            entry.runtime.run(_leave(entry))
            raise

    async def __aenter__(self) -> Slot:
        return await self._runtime.arun(self._enter(_task_id()))

    async def __aexit__(self, *exc_info: object) -> None:
        task = _task_id()
        entry = self._claimed(task, [])
        if task is not None:
            await entry.runtime.arun(_leave(entry))
        elif entry.slot is not None:  # a generator thrown away after its event loop: nothing can be awaited
            entry.runtime.ended(entry.slot)

    def _enter(self, who: object) -> Flow[Slot]:
        runtime = self._runtime
        found = yield from asking(runtime, runtime.ask(self._key, self._max_size, self._slot_exp_ms, ""), self._waits)
        entry = None
        try:
            if isinstance(found, Reply):
                raise full_error(self._key, found, self._waits)
            entry = _Entry(who, runtime, found)
            with _lock:
                stack = self._inside.get(who) or []
                stack.append(entry)
                self._inside[who] = stack  # last: it is taken away where a collected generator found it empty
            if self._shows:
                current.set(found)
        except BaseException:
            if isinstance(found, Slot):
                yield from _leave(self._claimed(who, [entry or _Entry(who, runtime, found)]))
            raise
        return found  # type: ignore[no-any-return]  # None where `on_store_error` says "run"

    def _claimed(self, who: object, claim: list[_Entry]) -> _Entry:
        """The entry that is left: the claimed one, or else this thread's or task's newest, or else another's newest."""
        with _lock:
            if not claim:
                stack = self._inside.get(who) or next(filter(None, reversed([*self._inside.values()])), None)
                if stack is None:
                    raise RuntimeError(f"pool {self._key!r} is left more often than it was entered")
                claim.append(stack[-1])
                del stack[-1]  # at once: who comes in the middle takes another one
            entry = claim[0]
            stack = self._inside.get(entry.who)
            if stack and entry in stack:
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
        yield from leave(entry.runtime, entry.slot)
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
        runtime: Runtime | None,
    ) -> None:
        check_key(key)
        try:
            self._max_size = count("max_size", max_size)
            self._on_full = Raise() if raise_on_full else as_strategy(on_full)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error} (pool {key!r})") from None
        self._key, self._runtime, self._slot_exp_ms = key, runtime, slot_exp_ms

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
            slot_exp_ms=self._slot_exp_ms, runtime=self._runtime, name=name,
        )  # fmt: skip
        recall = policy.keeps()
        if recall is not None and recall.key is not None:
            policy.recalls[recall.key] = KeyTemplate(recall.key, signature)
        return wrapped(policy, signature, _generator_pool)


def _generator_pool(policy: Policy, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pool:
    """The slot of a generator is held until it is exhausted or closed; full, its first item raises."""
    exp, key = policy.slot_exp_ms, policy.key.resolve(args, kwargs)
    seconds = exp / 1000 if isinstance(exp, int) else exp
    return Pool(key, policy.max_size, seconds, _runtime=policy.runtime, _waits=policy.waits(), _shows=False)


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
) -> AlwaysPool: ...
@overload
def pooled(
    key: str, max_size: int, on_full: Raise | Reschedule | CachedFallback | Park | Wait, raise_on_full: bool = ...,
    slot_exp: Seconds | Unset | None = ...,
) -> AlwaysPool: ...  # fmt: skip
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
            result is returned. None: answer None. Not given: a plain call answers None, a task does what the
            setting `default_on_full` says: it is parked, if that is not given either.
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
