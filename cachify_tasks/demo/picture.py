"""What ran when, as an SVG picture: a band of lanes per key, as many as its limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import count, takewhile
from pathlib import PurePath
from typing import Final

from .intervals import lanes
from .report import Report, Run

WIDTH: Final = 1200
LEFT, RIGHT, TOP, BOTTOM = 160, 1040, 118, 56  # the edges of the bars; the axis is below
PEAK, LIMIT, TASKS = 1082, 1126, 1176  # columns of numbers
LANE, GAP = 9, 7  # heights of a lane, and of the space between two keys
STEPS: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)  # seconds between two marks of the axis
MARKS: Final = 12  # at most

_STYLE: Final = """
svg { font-family: system-ui, "Segoe UI", "DejaVu Sans", sans-serif; font-size: 12px }
.page { fill: #ffffff } .band { fill: #eef1f5 } .grid { stroke: #c9d0d9; stroke-width: 1 }
text { fill: #1f2733 } .dim { fill: #5b6675 } .title { font-size: 20px; font-weight: 600 }
.limit { stroke: #8a3ffc; stroke-dasharray: 4 3; opacity: 0.75 }
.first { fill: #1f6fd1 } .parked { fill: #e07b00 } .over { fill: #d0021b } .end { text-anchor: end }
.mid { text-anchor: middle } .bad { fill: #d0021b; font-weight: 600 }
@media (prefers-color-scheme: dark) {
.page { fill: #12161c } .band { fill: #212832 } .grid { stroke: #3a4452 }
text { fill: #e6eaf0 } .dim { fill: #9aa6b5 } .limit { stroke: #be95ff }
.first { fill: #5aa2f0 } .parked { fill: #f0a64a } .over, .bad { fill: #ff5a5f }
}
"""


def picture(report: Report, processes: int) -> str:
    """The run as an SVG document; a tooltip on each bar names its file."""
    return _Picture(report, processes).draw()


class _Picture:
    def __init__(self, report: Report, processes: int) -> None:
        self._report, self._processes = report, processes
        self._runs = report.runs
        self._zero = min((run.started for run in self._runs), default=0)
        self._seconds = max(report.seconds, 0.001)
        self._parts: list[str] = []

    def draw(self) -> str:
        bands = [_Band(key.package, key.runs, key.peak, key.limit) for key in self._report.keys]
        bands.append(_Band("all", self._runs, self._report.peak, None, max(self._report.peak, self._processes)))
        foot = TOP
        for band in bands:
            foot += band.lanes * LANE + GAP * (1 if band.limit else 2)
            band.foot = foot - GAP
        for band in bands:
            self._rect(LEFT, band.foot - band.ground * LANE, RIGHT - LEFT, band.ground * LANE, "band")
        self._axis(foot)
        for band in bands:
            self._band(band)
        self._head()
        height = foot + BOTTOM
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
                f'width="{WIDTH}" height="{height}" role="img">',
                f"<title>{escape(self._title())}</title>",
                f"<style>{_STYLE}</style>",
                f'<rect class="page" width="{WIDTH}" height="{height}" rx="8"/>',
                *self._parts,
                "</svg>\n",
            ]
        )

    def _title(self) -> str:
        limits = sorted({key.limit for key in self._report.keys})
        return f"At most {' or '.join(map(str, limits)) or 'N'} tasks at once per package: what ran when"

    def _head(self) -> None:
        self._text(24, 36, self._title(), "title")
        facts = f"{len(self._runs)} tasks, {len(self._report.keys)} keys, {self._processes} worker processes"
        self._text(24, 58, f"{facts}, {self._report.seconds:.1f} s; from the tasks' own time stamps", "dim")
        entries = {"first": "ran when it arrived", "parked": "was parked, then ran"}
        if any(key.over for key in self._report.keys):
            entries["over"] = "ran over the limit"
        x = 24
        for style, label in entries.items():
            self._rect(x, 75, 18, 9, style)
            self._text(x + 25, 84, label)
            x += 215
        self._line(x, 80, x + 26, 80, "limit")
        self._text(x + 33, 84, "limit of the key")
        for x, title in ((PEAK, "peak"), (LIMIT, "limit"), (TASKS, "tasks")):
            self._text(x, TOP - 6, title, "dim end")

    def _axis(self, foot: float) -> None:
        step = next((step for step in STEPS if self._seconds / step <= MARKS), STEPS[-1])
        for mark in takewhile(lambda mark: mark <= self._seconds, (place * step for place in count())):
            x = LEFT + mark / self._seconds * (RIGHT - LEFT)
            self._line(x, TOP - 2, x, foot, "grid")
            self._text(x, foot + 16, f"{mark:g}", "mid")
        self._text((LEFT + RIGHT) / 2, foot + 38, "seconds since the first task started", "mid dim")

    def _band(self, band: _Band) -> None:
        placed = lanes([(run.started, run.ended) for run in band.runs])
        for run, lane in zip(band.runs, placed, strict=True):
            over = band.limit is not None and lane >= band.limit
            style = "over" if over else "parked" if run.parked else "first"
            self._bar(run, band.foot - (lane + 1) * LANE, style)
        if band.limit is not None:
            height = band.foot - band.limit * LANE
            self._line(LEFT, height, RIGHT, height, "limit")
        middle = band.foot - band.lanes * LANE / 2 + 4
        self._text(LEFT - 10, middle, band.name, "end")
        bad = band.limit is not None and band.peak > band.limit
        self._text(PEAK, middle, str(band.peak), "bad end" if bad else "end")
        self._text(LIMIT, middle, "" if band.limit is None else str(band.limit), "end")
        self._text(TASKS, middle, str(len(band.runs)), "dim end")

    def _bar(self, run: Run, y: float, style: str) -> None:
        scale = (RIGHT - LEFT) / self._seconds / 1e9
        took = run.ended - run.started
        tooltip = f"{PurePath(run.path).name}: {took / 1e6:.1f} ms{', parked before' if run.parked else ''}"
        self._rect(LEFT + (run.started - self._zero) * scale, y + 1, max(took * scale, 0.8), LANE - 1, style, tooltip)

    def _rect(self, x: float, y: float, width: float, height: float, style: str, tooltip: str = "") -> None:
        rect = f'<rect class="{style}" x="{x:.1f}" y="{y:g}" width="{width:.1f}" height="{height:g}"'
        self._parts.append(f"{rect}><title>{escape(tooltip)}</title></rect>" if tooltip else f"{rect}/>")

    def _line(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        self._parts.append(f'<line class="{style}" x1="{x1:.1f}" y1="{y1:g}" x2="{x2:.1f}" y2="{y2:g}"/>')

    def _text(self, x: float, y: float, text: str, style: str = "") -> None:
        self._parts.append(f'<text x="{x:.1f}" y="{y:g}" class="{style}">{escape(text)}</text>')


@dataclass(slots=True)
class _Band:
    """The lanes of a key, or of all; they grow upwards, so that what is over the limit stands above its line."""

    name: str
    runs: Sequence[Run]
    peak: int
    limit: int | None
    ground: int = 0  # lanes that are given a background
    foot: float = 0

    def __post_init__(self) -> None:
        self.ground = self.ground or self.limit or 0

    @property
    def lanes(self) -> int:
        return max(self.peak, self.ground)
