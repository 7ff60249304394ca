"""For tests of programs that use this package: a memory whose clock you move, the events of slots, and a checker."""

from .._runtime.events import (
    CopyDiscarded,
    Event,
    HandedOver,
    LeaseWasLost,
    LimitsDiffer,
    PoolFull,
    RenewalFailed,
    ResultNotKept,
    SlotGranted,
    SlotReleased,
    StandbyKept,
    StoreUnreachable,
    TaskParked,
    WaitsForItself,
)
from .checker import assert_sound, check
from .clock import Clock, memory
from .problems import Kind, Problem
from .recording import events

__all__ = [
    "Clock",
    "CopyDiscarded",
    "Event",
    "HandedOver",
    "Kind",
    "LeaseWasLost",
    "LimitsDiffer",
    "PoolFull",
    "Problem",
    "RenewalFailed",
    "ResultNotKept",
    "SlotGranted",
    "SlotReleased",
    "StandbyKept",
    "StoreUnreachable",
    "TaskParked",
    "WaitsForItself",
    "assert_sound",
    "check",
    "events",
    "memory",
]
