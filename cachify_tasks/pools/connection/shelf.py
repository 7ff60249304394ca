"""The part of a pool that its short ways touch."""

from __future__ import annotations

import sys
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Generic, TypeVar

from .records import Record

T = TypeVar("T")

NOWHERE: Any = SimpleNamespace(_thread_id=None)  # is no loop: the short ways are closed


class Shelf(Generic[T]):
    """What the short ways touch. In slots: they are found sooner than one attribute of forty."""

    __slots__ = ("_home", "_idle", "_lent", "_line", "_take")

    _take: Callable[[], Record[T]]

    def __init__(self) -> None:
        self._home: Any = NOWHERE  # the loop, where the short ways are open
        self._idle: deque[Record[T]] = deque()
        self._lent: dict[int, Record[T]] = {}


def home_of(loop: AbstractEventLoop) -> Any:
    """What `_home` is where the short ways are open."""
    return loop if sys.version_info >= (3, 12) or hasattr(loop, "_thread_id") else NOWHERE
