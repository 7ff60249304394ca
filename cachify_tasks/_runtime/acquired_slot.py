"""A slot that was acquired for a while: by `Pool.acquire`, for the caller to release."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from .._core.commands import Acquire, Reply
from .._core.decisions import Waiting
from .._core.flows import Flow, leave
from ..errors import CachifyPoolFullError
from .call_flow import asking
from .runtime import Runtime
from .slot import Slot, current


class AcquiredSlot:
    """A slot, until `release()` is called, by any thread or task; or as a context manager, until the block ends.

    Released again, nothing happens. One that is never released ends with its lease after it was thrown away.

    Attributes:
        slot: the `Slot`; None where the store was out of reach, and `on_store_error` is "run".
    """

    __slots__ = ("_before", "_released", "_runtime", "slot")

    def __init__(self, runtime: Runtime, slot: Slot | None) -> None:
        self._runtime, self.slot = runtime, slot
        self._released = slot is None
        self._before: Slot | None = None

    def release(self) -> None:
        """Free the slot; it goes to the oldest in the pool's queue."""
        self._runtime.run(self._leave())

    async def arelease(self) -> None:
        """`release` for code in an event loop."""
        await self._runtime.arun(self._leave())

    def _leave(self) -> Flow[None]:
        if not self._released and self.slot is not None:
            yield from leave(self._runtime, self.slot)
            self._released = True

    def __enter__(self) -> Slot:
        self._before = current.get()
        current.set(self.slot)
        return self.slot  # type: ignore[return-value]  # None where `on_store_error` says "run"

    def __exit__(self, *exc_info: object) -> None:
        self._forget()
        try:
            self.release()
        except BaseException:  # perhaps a signal struck; twice is as good as once
            self.release()
            raise

    def _forget(self) -> None:
        if current.get() is self.slot:  # else the block is left by another context than entered it
            current.set(self._before)

    def __repr__(self) -> str:
        return f"<Held {self.slot!r}{' released' * self._released}>"


class PendingAcquire:
    """What `Pool.aacquire` returns: await it for a `Held`, or enter it with `async with` for its `Slot`."""

    __slots__ = ("_flow", "_held", "_runtime")

    def __init__(self, runtime: Runtime, flow: Flow[AcquiredSlot]) -> None:
        self._runtime, self._flow = runtime, flow
        self._held: AcquiredSlot | None = None

    def __await__(self) -> Generator[Any, None, AcquiredSlot]:
        return self._runtime.arun(self._flow).__await__()

    async def __aenter__(self) -> Slot:
        self._held = await self._runtime.arun(self._flow)
        return self._held.__enter__()

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._held is not None
        self._held._forget()
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # a generator thrown away after its event loop: nothing can be awaited
            if self._held.slot is not None:
                self._runtime.ended(self._held.slot)
        else:
            await self._held.arelease()


def acquire_flow(runtime: Runtime, ask: Acquire, waiting: Waiting) -> Flow[AcquiredSlot]:
    """Acquire a slot, waiting for it, or raise `CachifyPoolFullError`."""
    found = yield from asking(runtime, ask, waiting)
    try:
        if isinstance(found, Reply):
            raise full_error(ask.pool, found, waiting)
        return AcquiredSlot(runtime, found)
    except BaseException:
        if isinstance(found, Slot):
            yield from leave(runtime, found)
        raise


def full_error(key: str, found: Reply, waiting: Waiting | None) -> CachifyPoolFullError:
    message = f"pool {key!r} is full: {found.held} of {found.limit} slots are taken"
    hint = waiting.told if waiting else "wait, raise max_size, or give @pooled an on_full"
    return CachifyPoolFullError(f"{message}; {hint}", key, found.limit, found.held)
