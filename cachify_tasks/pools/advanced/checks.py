"""What an argument must be, said when it is given."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

from .terms import Limits

DEFAULT_LEAST, DEFAULT_MOST = 1, 5


def whole(name: str, number: object, least: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{name} must be an int, not {number!r}")
    if number < least:
        raise ValueError(f"{name} must be {least} or more, not {number}")
    return number


def seconds(name: str, given: float | timedelta | None) -> float | None:
    if given is None:
        return None
    if isinstance(given, timedelta):
        given = given.total_seconds()
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise TypeError(f"{name} must be seconds, a timedelta or None, not {given!r}")
    if not given >= 0:
        raise ValueError(f"{name} must be 0 seconds or more, not {given}")
    return float(given)


def limits(
    min_workers: int | None, max_workers: int | None, keep_alive: float | timedelta | None, *, scaling: bool
) -> Limits:
    """Without scaling there are always as many workers as there may be."""
    least = DEFAULT_LEAST if min_workers is None else whole("min_workers", min_workers, 0)
    most = max(DEFAULT_MOST, least) if max_workers is None else whole("max_workers", max_workers, 1)
    if min_workers is None:
        least = min(least, most)
    if least > most:
        raise ValueError(f"min_workers is {least} and max_workers {most}: the least is more than the most")
    kept = seconds("keep_alive", keep_alive)
    keep = threading.TIMEOUT_MAX if kept is None else min(kept, threading.TIMEOUT_MAX)
    return Limits(least if scaling else most, most, keep)


def rank(priority: object) -> int:
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise TypeError(f"a priority must be an int, the smaller one first, not {priority!r}")
    return priority


def function(given: object, name: str = "what a pool calls") -> Callable[..., object]:
    if not callable(given):
        raise TypeError(f"{name} must be a function, not {given!r}")
    return given
