"""Who is inside a pool object: the entries that were made by `with` and are not left yet."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from .._core.flows import release
from .._fork import after_in_child
from .slot import Slot, current

if TYPE_CHECKING:
    from .runtime import Runtime

# Guards `Entries.by_who` of all pool objects. Re-entrant: the garbage collector may finalise a generator, which leaves
# a pool, while this thread holds it.
_lock = threading.RLock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()  # a thread of the parent may have held it


after_in_child(_renew_lock)


class Entry:
    """One entry into a pool object.

    Attributes:
        who: the thread or task that made it.
        runtime: where the slot was granted: `init_cachify` may be called again before it is left.
        slot: None: not there yet, or the code goes on without one.
    """

    __slots__ = ("_before", "_entries", "_shows", "runtime", "slot", "who")

    def __init__(self, entries: Entries, who: object, runtime: Runtime, *, shows: bool) -> None:
        """shows: make the slot the current one of the code that enters."""
        self._entries = entries
        self._shows = shows
        self._before: Slot | None = None
        self.who = who
        self.runtime = runtime
        self.slot: Slot | None = None

    def keep(self, slot: Slot | None) -> None:
        self.slot = slot
        self._before = current.get()
        self._entries.add(self)
        if self._shows:
            if slot is not None:
                slot.outer = self._before
            current.set(slot)

    def drop(self) -> None:
        self._entries.remove(self)
        self.leave_context()

    def leave_context(self) -> None:
        """Make the slot from before the entry the current one."""
        if current.get() is self.slot:  # else it is left by another context than entered it, or not in turn
            current.set(self._before)

    def release(self) -> None:
        """Free the slot; done again, it changes nothing."""
        if self.slot is not None:
            self.runtime.run(release(self.runtime.keeper, self.slot))

    async def arelease(self) -> None:
        """`release` for code in an event loop."""
        if self.slot is not None:
            await self.runtime.arun(release(self.runtime.keeper, self.slot))

    def abandon(self) -> None:
        """Renew the slot no more; it ends with its lease."""
        if self.slot is not None:
            self.runtime.keeper.stop_renewing(self.slot)


class Entries:
    """The entries of one pool object, by the thread or task that made them, the newest last."""

    __slots__ = ("by_who",)

    def __init__(self) -> None:
        self.by_who: dict[object, list[Entry]] = {}

    def add(self, entry: Entry) -> None:
        with _lock:
            stack = self.by_who.get(entry.who) or []
            stack.append(entry)
            self.by_who[entry.who] = stack  # last: a generator finalised in between may have removed the empty list

    def claim(self, who: object, claimed: list[Entry]) -> Entry | None:
        """Take out the entry that is being left; None: nobody is inside.

        It is the newest of this thread or task, or else the newest of another one: a pool may be left by another one
        than entered it.

        Args:
            claimed: empty at first; called again with the same list, the answer is the same entry.
        """
        with _lock:
            if not claimed:
                stack = self.by_who.get(who) or next(filter(None, reversed([*self.by_who.values()])), None)
                if stack is None:
                    return None
                claimed.append(stack[-1])
                del stack[-1]  # at once: whoever leaves in between takes another one
            self._remove(claimed[0])
        return claimed[0]

    def remove(self, entry: Entry) -> None:
        with _lock:
            self._remove(entry)

    def _remove(self, entry: Entry) -> None:
        stack = self.by_who.get(entry.who)
        if stack and entry in stack:
            stack.remove(entry)
        if not stack:
            self.by_who.pop(entry.who, None)


def running_task() -> int | None:
    """Names the running task, without keeping it alive; None: no event loop runs."""
    try:
        return id(asyncio.current_task())
    except RuntimeError:
        return None
