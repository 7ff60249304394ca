"""The options of a pool, checked when they are given."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final, TypedDict

from ..._checks import Seconds, count, seconds

MOST: Final = 100_000  # connections of one pool


class MoreOptions(TypedDict, total=False):
    """What a pool takes by name alone."""

    timeout: Seconds | None
    call_timeout: Seconds | None
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
    """All but the limits, which can be changed. Durations are seconds. See `ConnectionPool`."""

    factory: Callable[..., Any]
    maxlife: float
    healthchecker: Callable[..., object] | None
    cleaner: Callable[..., object] | None
    timeout: float | None
    call_timeout: float | None
    max_waiting: int | None
    max_idle: float | None
    jitter: float
    backoff: float
    keepalive: float | None
    leak_after: float | None
    interval: float


def limit(name: str, value: object) -> float | None:
    """Seconds that something may take: 0 or more; None: any time."""
    return None if value is None else seconds(name, value)


def pause(name: str, value: object) -> float | None:
    """Seconds until something is done: more than 0; None: it is never done."""
    return None if value is None else seconds(name, value, exclusive=True)


def sizes(minsize: object, maxsize: object) -> tuple[int, int]:
    """Both limits."""
    least, most = count("minsize", minsize, least=0, most=MOST), count("maxsize", maxsize, most=MOST)
    if least > most:
        raise ValueError(f"minsize must be at most maxsize, which is {most}, not {least}")
    return least, most


def fraction(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number from 0 to 1, not {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be a number from 0 to 1, not {value!r}")
    return float(value)


def checked_executor(name: str, value: object) -> Executor | None:
    """What functions run in."""
    if value is not None and not callable(getattr(value, "submit", None)):
        raise TypeError(f"{name} must be a concurrent.futures.Executor or None, not {value!r}")
    return value  # type: ignore[return-value]  # whatever has `submit` will do
