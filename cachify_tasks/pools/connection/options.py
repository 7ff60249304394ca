"""What a pool may be told, checked when it is told."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypedDict

Seconds = float | timedelta


class More(TypedDict, total=False):
    """What a pool may be told by name alone."""

    timeout: Seconds | None
    max_waiting: int | None
    max_idle: Seconds | None
    jitter: float
    backoff: Seconds
    keepalive: Seconds | None
    leak_after: Seconds | None
    interval: Seconds
    lifo: bool


@dataclass(frozen=True, slots=True)
class Options:
    """Of a pool, but for its limits, which can be changed. Durations are seconds."""

    factory: Callable[..., Any]
    maxlife: float
    healthchecker: Callable[..., object] | None
    cleaner: Callable[..., object] | None
    timeout: float | None
    max_waiting: int | None
    max_idle: float | None
    jitter: float
    backoff: float
    keepalive: float | None
    leak_after: float | None
    interval: float


def seconds(name: str, value: object, *, zero: bool = False, endless: bool = False) -> float:
    """The value as a float.

    Args:
        zero: may it be 0?
        endless: may it be infinite?
    """
    told = "a number of seconds or a timedelta"
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {told}, not {value!r}")
    if math.isnan(value) or value < 0 or (value == 0 and not zero) or (math.isinf(value) and not endless):
        raise ValueError(f"{name} is {told}, {'at least' if zero else 'more than'} 0, not {value!r}")
    return float(value)


def optional_seconds(name: str, value: object, *, zero: bool = False) -> float | None:
    return None if value is None else seconds(name, value, zero=zero)


def count(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is an int of at least {least}, not {value!r}")
    if value < least:
        raise ValueError(f"{name} is an int of at least {least}, not {value!r}")
    return value


def sizes(minsize: object, maxsize: object) -> tuple[int, int]:
    least, most = count("minsize", minsize, 0), count("maxsize", maxsize, 1)
    if least > most:
        raise ValueError(f"minsize is at most maxsize, which is {most}; not {least}")
    return least, most


def fraction(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is a number from 0 to 1, not {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a number from 0 to 1, not {value!r}")
    return float(value)


def function(name: str, value: Any) -> Any:
    if not callable(value):
        raise TypeError(f"{name} is a callable, not {value!r}")
    return value


def executor(name: str, value: Any) -> Any:
    if value is not None and not callable(getattr(value, "submit", None)):
        raise TypeError(f"{name} is a concurrent.futures.Executor or None, not {value!r}")
    return value
