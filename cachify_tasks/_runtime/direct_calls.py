"""The commands of direct calls, which are those that no worker makes, and the names of their arrivals."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from .._core.commands import Acquire
from .._fork import after_in_child
from ..settings import Unset

if TYPE_CHECKING:
    from .runtime import Runtime


class Names:
    """Names of arrivals, unique over processes and forks.

    Attributes:
        next: returns another name. Any thread may call it: `count` and `map` are C code, which the GIL makes atomic.
    """

    next: Callable[[], str]

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Begin anew, in a process that was forked."""
        process = f"{os.getpid():x}-{os.urandom(6).hex()}"
        self.next = map(f"{process}-%x".__mod__, itertools.count(1)).__next__


names: Final = Names()
after_in_child(names.renew)


def acquire_command(
    runtime: Runtime, *, pool: str, limit: int, slot_exp_ms: int | Unset | None, label: str = ""
) -> Acquire:
    """The command by which a direct call asks for a slot.

    Args:
        slot_exp_ms: the slot's hard limit; None: none; UNSET: the runtime's default.
        label: describes the call for whoever inspects the pool.
    """
    name = names.next()
    hard = runtime.slot_exp_ms if isinstance(slot_exp_ms, Unset) else slot_exp_ms
    return Acquire(
        pool=pool, holder=name, request_id=name, limit=limit, lease_ms=runtime.lease_ms, start_ms=runtime.start_ms,
        slot_exp_ms=hard or 0, label=label, first_delivery=True,
    )  # fmt: skip
