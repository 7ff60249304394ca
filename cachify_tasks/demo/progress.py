"""How far it is, per package: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from .files import SourceFile

LINE_S: Final = 1.0  # between two plain lines
FRAME: Final = 6  # lines of a terminal that are not for packages
BAR: Final = 30
OTHERS: Final = "(others)"


class Progress:
    """Shows how many tasks are done; `add` one, `show` now and then."""

    def __init__(self, console: Console, files: Iterable[SourceFile]) -> None:
        self._console = console
        self._total = Counter(file.package for file in files)
        self._done: Counter[str] = Counter()
        self._parked: Counter[str] = Counter()
        self._next_line = time.monotonic()
        self._live: Live | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(self._table(), console=console, auto_refresh=False, transient=True)

    def add(self, package: str, *, parked: bool) -> None:
        """A task of this package has ended. Had it been parked?"""
        self._done[package] += 1
        self._parked[package] += parked

    def show(self) -> None:
        """Bring what is shown up to date."""
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_S
            done, total = self._done.total(), self._total.total()
            print(f"  {done} of {total} done, {self._parked.total()} of them were parked", flush=True)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc_type is None:
            self._next_line = 0.0
            self.show()
        if self._live is not None:
            self._live.stop()

    def _table(self) -> Table:
        shown = [package for package, _ in self._total.most_common(max(3, self._console.height - FRAME))]
        if len(shown) < len(self._total):
            shown[-1:] = [OTHERS]
        table = Table.grid(padding=(0, 1))
        table.add_column(justify="right")
        for package in shown:
            total, done, parked = (
                self._sum(counts, package, shown) for counts in (self._total, self._done, self._parked)
            )
            bar = ProgressBar(total=total, completed=done, width=BAR)
            table.add_row(package, bar, f"{done}/{total}", f"[dim]{parked} parked" if parked else "")
        done, total = self._done.total(), self._total.total()
        table.add_row("[bold]all", ProgressBar(total=total, completed=done, width=BAR), f"[bold]{done}/{total}", "")
        return table

    @staticmethod
    def _sum(counts: Counter[str], package: str, shown: Iterable[str]) -> int:
        if package != OTHERS:
            return counts[package]
        return counts.total() - sum(counts[other] for other in shown)
