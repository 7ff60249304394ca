"""The commands by which deliveries ask for slots."""

from __future__ import annotations

from typing import Final

from .._checks import text
from .._core.commands import Acquire, StartReserved, Ticket
from .._core.decisions import Parking
from .._runtime.direct_calls import names
from .._runtime.runtime import Runtime
from .limits import TaskLimit
from .port import Delivery, Stored

MAX_PRIORITY: Final = 255


def acquire(runtime: Runtime, limit: TaskLimit, delivery: Delivery, kind: str) -> Acquire:
    """The command by which a delivery asks for a slot, or to be parked.

    Raises:
        TypeError, ValueError: the arguments do not fit the function or the key, or a name cannot be sent (it is not
            valid Unicode). Whatever else formatting a user's argument raises.
    """
    args, kwargs = delivery.arguments()
    pool = limit.key.resolve(args, kwargs)
    holder, label, is_copy = delivery.attempt.holder, delivery.label, delivery.is_copy
    _check_text(id=holder, name=label)
    return Acquire(
        pool=pool, holder=holder, request_id=names.next(), limit=limit.max_size,
        lease_ms=runtime.lease_ms, start_ms=runtime.start_ms, slot_exp_ms=limit.slot_exp_ms, label=label,
        by_worker=True, first_delivery=not is_copy, can_start_heirs=True,
        ticket=_ticket(limit.parking, delivery, kind, is_copy),
    )  # fmt: skip


def start_reserved(runtime: Runtime, limit: TaskLimit | None, delivery: Delivery, stored: Stored) -> StartReserved:
    """The command by which a parked task asks for its reserved slot, in the pool where it was parked.

    Args:
        limit: as it is now: its key may have changed since; None: the task has no limit any more.

    Raises:
        ValueError: a name cannot be sent: it is not valid Unicode.
    """
    holder, label = delivery.attempt.holder, delivery.label
    _check_text(pool=stored.pool, id=holder, name=label, starter=stored.starter)
    hard = limit.slot_exp_ms if limit else runtime.slot_exp_ms or 0
    return StartReserved(
        pool=stored.pool, holder=holder, request_id=names.next(), limit=limit.max_size if limit else 0,
        lease_ms=runtime.lease_ms, start_ms=runtime.start_ms, slot_exp_ms=hard, label=label,
        by_worker=True, can_start_heirs=True, starter=stored.starter,
    )  # fmt: skip


def _ticket(parking: Parking | None, delivery: Delivery, kind: str, is_copy: bool) -> Ticket | None:
    """What the store keeps: of a task that may park, and of a copy, which it keeps until the running delivery ends."""
    if parking is None and not is_copy:
        return None
    envelope = delivery.envelope()
    if not envelope:
        return None
    task_id = delivery.attempt.task_id
    if parking is None:
        return Ticket(kind=kind, envelope=envelope, task_id=task_id, park=False)
    priority = 0 if parking.priority is None else _priority(parking, delivery)
    return Ticket(kind=kind, envelope=envelope, task_id=task_id, priority=priority, max_parked=parking.max_parked)


def _priority(parking: Parking, delivery: Delivery) -> int:
    if not callable(parking.priority):
        return _checked_priority(delivery.message_priority())
    args, kwargs = delivery.own_arguments()
    return _checked_priority(parking.priority(*args, **kwargs))


def _checked_priority(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_PRIORITY:
        raise ValueError(f"the priority of a parked task must be an int from 0 to {MAX_PRIORITY}, not {value!r}")
    return int(value)  # an IntEnum cannot be sent


def _check_text(**names: str) -> None:
    """Fail now, for this delivery alone, if a name cannot be sent: not later, for a whole batch."""
    for what, name in names.items():
        if not name.isascii():
            text(f"the {what} of a task", name)
