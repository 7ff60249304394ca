"""What the run came to, as text."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from .report import Report


def print_table(console: Console, report: Report) -> None:
    """One row for each key, and their sum."""
    table = Table(box=box.SIMPLE_HEAD, show_footer=True, collapse_padding=True, pad_edge=False)
    table.add_column("key", "all", no_wrap=True)
    runs = report.runs
    wait = sum(run.started - run.sent for run in runs) / max(1, len(runs)) / 1e9
    parked, rescheduled = sum(key.parked for key in report.keys), sum(key.rescheduled for key in report.keys)
    for title, footer in (
        ("tasks", str(len(runs))), ("peak", str(report.peak)), ("limit", ""), ("parked", str(parked)),
        ("rescheduled", str(rescheduled)), ("mean wait", f"{wait:.2f} s"),
    ):  # fmt: skip
        table.add_column(title, footer, justify="right", no_wrap=True)
    for key in report.keys:
        peak = f"[bold red]{key.peak}" if key.over else str(key.peak)
        table.add_row(
            f"package-{key.package}",
            str(key.tasks),
            peak,
            str(key.limit),
            str(key.parked),
            str(key.rescheduled),
            f"{key.wait_s:.2f} s",
        )
    console.print(table)


def print_sums(report: Report, seconds: float) -> None:
    """What was indexed, in how long."""
    runs = report.runs
    lines, functions, classes = (
        f"{sum(getattr(run, what) for run in runs):,}" for what in ("lines", "functions", "classes")
    )
    print(f"{len(runs)} files: {lines} lines, {functions} functions, {classes} classes.")
    unparsed = sum(not run.parsed for run in runs)
    if unparsed:
        print(f"{unparsed} of them are no valid Python, on purpose: their lines alone were counted.")
    print(f"The tasks took {report.seconds:.1f} s from first to last; the demo {seconds:.1f} s.")
