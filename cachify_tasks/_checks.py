"""Checks of arguments that the whole package shares: each returns the value, or raises an error that names it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Final, TypeAlias

Seconds: TypeAlias = float | timedelta
TEN_YEARS: Final = 315_360_000  # seconds; beyond it, microseconds since the epoch are no longer exact in Redis
MOST: Final = 2**63 - 1  # of what the store counts; some write sys.maxsize, which is that, for "no limit here"


def seconds(name: str, value: object, *, least: float = 0.0, exclusive: bool = False, infinite: bool = False) -> float:
    """A duration as a float of seconds.

    Args:
        least: the shortest duration that is valid; `exclusive`: it must be longer than that.
        infinite: accept `math.inf`.

    Raises:
        TypeError: it is neither a number nor a timedelta.
        ValueError: it is too short, not a number, or infinite.
    """
    given = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise TypeError(f"{name} must be seconds (a number or a timedelta), not {value!r}")
    if not (given > least if exclusive else given >= least) or (math.isinf(given) and not infinite):
        bound = "more than" if exclusive else "at least"
        raise ValueError(f"{name} must be {bound} {least:g} seconds, not {value!r}")
    return float(given)


def milliseconds(name: str, value: object, *, minimum: int = 1) -> int:
    """A duration in seconds as whole milliseconds, for what is sent to the store.

    Args:
        minimum: the shortest duration that is valid, in milliseconds.

    Raises:
        TypeError: it is neither a number nor a timedelta.
        ValueError: it is not finite, shorter than `minimum` milliseconds, or longer than ten years.
    """
    given = seconds(name, value, least=minimum / 1000)
    if given > TEN_YEARS:
        raise ValueError(f"{name} must be at most {TEN_YEARS:,} seconds (ten years), not {value!r}")
    return round(given * 1000)


def count(name: str, value: object, *, least: int = 1, most: int | None = None) -> int:
    """A whole number as a plain int: an IntEnum cannot be sent to the store.

    Raises:
        TypeError: it is not an int.
        ValueError: it is less than `least`, or more than `most`.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int of at least {least}, not {value!r}")
    if most is not None and value > most:
        raise ValueError(f"{name} must be an int from {least:,} to {most:,}, not {_shown(value)}")
    if value < least:
        raise ValueError(f"{name} must be an int of at least {least}, not {_shown(value)}")
    return int(value)


def _shown(value: int) -> str:
    try:
        return repr(value)
    except ValueError:  # Python writes out no more than some thousand digits
        return f"an int of {value.bit_length()} bits"


def number(name: str, value: object, *, least: float) -> float:
    """A finite number.

    Raises:
        TypeError: it is no number.
        ValueError: it is less than `least`, infinite, or not a number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of at least {least:g}, not {value!r}")
    if not least <= value < math.inf:
        raise ValueError(f"{name} must be a number of at least {least:g}, not {value!r}")
    return value


def flag(name: str, value: object) -> bool:
    """True or False, and nothing that only counts as one.

    Raises:
        TypeError: it is neither.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return value


def text(name: str, value: object) -> str:
    """Text that can be sent to the store.

    Raises:
        TypeError: it is no text.
        ValueError: it has a lone surrogate, half of a character, which UTF-8 cannot encode.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, not {value!r}")
    if has_lone_surrogate(value):
        raise ValueError(f"{name} must be text that UTF-8 can encode, not {value!r}: it has a lone surrogate")
    return value


def has_lone_surrogate(value: str) -> bool:
    """Is there a half of a character in it, which UTF-8 cannot encode?"""
    if value.isascii():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return True
    return False


def arguments(name: str, value: object) -> tuple[object, ...]:
    """Positional arguments for a function, given as a list or another iterable; None: no arguments.

    Raises:
        TypeError: it is no iterable, or a string, whose characters would become the arguments.
    """
    if value is None:
        return ()
    if isinstance(value, str | bytes | bytearray) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a list or None, not {value!r}")
    return tuple(value)


def function(name: str, value: object) -> Callable[..., object]:
    """Something that can be called.

    Raises:
        TypeError: it cannot.
    """
    if not callable(value):
        raise TypeError(f"{name} must be a function, not {value!r}")
    return value


def integer(name: str, value: object) -> int:
    """A whole number of any size and sign.

    Raises:
        TypeError: it is not an int.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {value!r}")
    return int(value)
