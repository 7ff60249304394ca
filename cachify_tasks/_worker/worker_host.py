"""What most of a reaper's questions mean: the answers are those of the worker's core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .._core.replies import Heir
from .outage import StoreOutage


class Core(Protocol):
    """A `Worker`, whatever its messages."""

    outage: StoreOutage

    def resend(self) -> None: ...
    def take_news(self) -> bool: ...
    def start_heirs(self, pool: str, heirs: Sequence[Heir], /) -> None: ...


class WorkerHost:
    """The part of a `ReaperHost` that is the same in every adapter."""

    core: Core

    @property
    def store_down(self) -> bool:
        return self.core.outage.is_on

    def resume(self) -> None:
        self.core.outage.end_pause()

    def resend(self) -> None:
        self.core.resend()

    def take_news(self) -> bool:
        return self.core.take_news()

    def offer(self, pool: str, heirs: Sequence[Heir]) -> None:
        self.core.start_heirs(pool, heirs)
