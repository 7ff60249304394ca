"""How many workers a pool may have, and how long things may take."""

from __future__ import annotations

import threading
from typing import NamedTuple, TypeAlias

from ..._checks import Seconds, count, flag, seconds

Timeout: TypeAlias = Seconds | None

DEFAULT_LEAST = 1
DEFAULT_MOST = 5
MOST_WORKERS = 10_000


class Limits(NamedTuple):
    """keep_alive: seconds until an idle worker above the least ends."""

    least: int
    most: int
    keep_alive: float


def limits(min_workers: int | None, max_workers: int | None, *, keep_alive: Timeout, scaling: bool) -> Limits:
    """The limits for these options. Without scaling there are always as many workers as there may be."""
    least = DEFAULT_LEAST if min_workers is None else count("min_workers", min_workers, least=0, most=MOST_WORKERS)
    most = max(DEFAULT_MOST, least) if max_workers is None else count("max_workers", max_workers, most=MOST_WORKERS)
    flag("scaling", scaling)
    if min_workers is None:
        least = min(least, most)
    if least > most:
        raise ValueError(f"min_workers must be at most max_workers, which is {most}, not {least}")
    kept = optional_seconds("keep_alive", keep_alive)
    longest = threading.TIMEOUT_MAX
    return Limits(least if scaling else most, most, longest if kept is None else min(kept, longest))


def optional_seconds(name: str, value: Timeout) -> float | None:
    """A duration in seconds, which may be infinite; None: no limit."""
    return None if value is None else seconds(name, value, infinite=True)
