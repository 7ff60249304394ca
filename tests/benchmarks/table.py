"""Paired measurements, and the one table that shows them.

A pair is one run of A and one of B, right after each other in one process; the figure is the ratio within the pair,
so that a machine that slows down slows both. Shown: the median ratio, its spread, and the median cost of each side.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

PAIRS = 9


@dataclass(slots=True)
class Row:
    """One line. goal: what the median ratio is compared with; better: "low" or "high"; unit: of the two costs."""

    what: str
    ratios: list[float]
    ours: float
    theirs: float
    unit: str
    goal: float | None = None
    better: str = "low"

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return ""
        median = statistics.median(self.ratios)
        met = median <= self.goal if self.better == "low" else median >= self.goal
        return f"{'<=' if self.better == 'low' else '>='} {self.goal:g} {'met' if met else 'MISSED'}"

    def cells(self) -> list[str]:
        low, high = min(self.ratios), max(self.ratios)
        return [
            self.what,
            f"{statistics.median(self.ratios):.2f}",
            f"{low:.2f}..{high:.2f}",
            str(len(self.ratios)),
            f"{self.ours:.4g} {self.unit}",
            f"{self.theirs:.4g} {self.unit}",
            self.verdict,
        ]


@dataclass(slots=True)
class Table:
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, row: Row) -> None:
        self.rows.append(row)
        print("  " + "  ".join(row.cells()), file=sys.stderr, flush=True)

    def show(self) -> None:
        head = ["what (ours / theirs)", "median", "spread", "pairs", "ours", "theirs", "goal"]
        lines = [head, *(row.cells() for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        for number, line in enumerate(lines):
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
            if number == 0:
                print("  ".join("-" * width for width in widths))
        for note in self.notes:
            print(f"* {note}")


def paired(
    what: str,
    ours: Callable[[], float],
    theirs: Callable[[], float],
    *,
    unit: str,
    goal: float | None = None,
    better: str = "low",
    upside_down: bool = False,
    pairs: int = PAIRS,
) -> Row:
    """Measure both sides in turn, A B B A, after one round that is not counted.

    Args:
        ours, theirs: each does one run and answers its cost.
        upside_down: the ratio is theirs / ours ("so many times faster").
    """
    ours(), theirs()
    ratios, a, b = [], [], []
    for number in range(pairs):
        if number % 2:
            y, x = theirs(), ours()
        else:
            x, y = ours(), theirs()
        a.append(x)
        b.append(y)
        ratios.append(y / x if upside_down else x / y)
    return Row(what, ratios, statistics.median(a), statistics.median(b), unit, goal, better)
