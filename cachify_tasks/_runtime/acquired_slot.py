"""A slot that was acquired for a while: by `Pool.acquire`, for the caller to release."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from .._core.flows import Flow, release
from .slot import Slot, current

if TYPE_CHECKING:
    from .runtime import Runtime


class AcquiredSlot:
    """A slot to be released by hand, with `release()`, by any thread or task; or as a context manager, by its block.

    To release it again does nothing. A slot that is never released ends with its lease, once this object is gone.

    Attributes:
        slot: the `Slot`; None where the store was out of reach, and `on_store_error` is "run".
    """

    __slots__ = ("_before", "_released", "_runtime", "slot")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._before: Slot | None = None
        self._released = False
        self.slot: Slot | None = None

    def keep(self, slot: Slot | None) -> None:
        self.slot = slot

    def drop(self) -> None:
        self._released = True

    def release(self) -> None:
        """Free the slot; it goes to the oldest in the pool's queue."""
        if not self._released and self.slot is not None:
            self._runtime.run(release(self._runtime.keeper, self.slot))
            self._released = True

    async def arelease(self) -> None:
        """`release` for code in an event loop."""
        if not self._released and self.slot is not None:
            await self._runtime.arun(release(self._runtime.keeper, self.slot))
            self._released = True

    def abandon(self) -> None:
        """Renew the slot no more; it ends with its lease."""
        if self.slot is not None:
            self._runtime.keeper.stop_renewing(self.slot)

    def __enter__(self) -> Slot:
        self._before = current.get()
        if self.slot is not None:
            self.slot.outer = self._before
        current.set(self.slot)
        return self.slot  # type: ignore[return-value]  # None where `on_store_error` says "run"

    def __exit__(self, *exc_info: object) -> None:
        self.leave_context()
        try:
            self.release()
        except BaseException:  # perhaps a signal struck; twice is as good as once
            self.release()
            raise

    def leave_context(self) -> None:
        """Make the slot from before the block the current one."""
        if current.get() is self.slot:  # else another context leaves the block than entered it
            current.set(self._before)

    def __repr__(self) -> str:
        return f"<AcquiredSlot {self.slot!r}{' released' * self._released}>"


class PendingAcquire:
    """What `Pool.aacquire` returns: await it for an `AcquiredSlot`, or enter it with `async with` for its `Slot`."""

    __slots__ = ("_acquired", "_begin", "_runtime")

    def __init__(self, runtime: Runtime, begin: Callable[[AcquiredSlot], Flow[Slot | None]]) -> None:
        self._runtime = runtime
        self._begin = begin
        self._acquired: AcquiredSlot | None = None

    def __await__(self) -> Generator[object, None, AcquiredSlot]:
        return self._acquire().__await__()

    async def _acquire(self) -> AcquiredSlot:
        acquired = AcquiredSlot(self._runtime)
        await self._runtime.arun(self._begin(acquired))
        return acquired

    async def __aenter__(self) -> Slot:
        self._acquired = await self._acquire()
        return self._acquired.__enter__()

    async def __aexit__(self, *exc_info: object) -> None:
        acquired = self._acquired
        assert acquired is not None
        acquired.leave_context()
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # a generator thrown away after its event loop: nothing can be awaited
            acquired.abandon()
        else:
            await acquired.arelease()
