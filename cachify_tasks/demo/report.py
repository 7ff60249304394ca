"""What the tasks' own time stamps say: was each limit kept, and is each file there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .files import SourceFile
from .intervals import peak


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One task that has run; times are nanoseconds of one clock."""

    package: str
    path: str
    sent: int
    started: int
    ended: int
    parked: int
    rescheduled: int
    lines: int
    functions: int
    classes: int
    parsed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What happened under one key."""

    package: str
    limit: int
    peak: int
    runs: tuple[Run, ...]

    @property
    def tasks(self) -> int:
        return len(self.runs)

    @property
    def parked(self) -> int:
        return sum(run.parked for run in self.runs)

    @property
    def rescheduled(self) -> int:
        return sum(run.rescheduled for run in self.runs)

    @property
    def over(self) -> bool:
        return self.peak > self.limit

    @property
    def wait_s(self) -> float:
        """Seconds from being sent to the start, on average."""
        return sum(run.started - run.sent for run in self.runs) / len(self.runs) / 1e9


@dataclass(frozen=True, slots=True)
class Report:
    """The whole run.

    Attributes:
        keys: the busiest first.
        missing: paths of files without a result, and why.
    """

    keys: tuple[Key, ...]
    missing: Mapping[str, str]

    @property
    def runs(self) -> list[Run]:
        return [run for key in self.keys for run in key.runs]

    @property
    def peak(self) -> int:
        """Of all tasks together."""
        return peak((run.started, run.ended) for run in self.runs)

    @property
    def seconds(self) -> float:
        """From the first start to the last end."""
        runs = self.runs
        return (max(run.ended for run in runs) - min(run.started for run in runs)) / 1e9 if runs else 0.0

    @property
    def problems(self) -> list[str]:
        """What must not be; empty when all is well."""
        found = [
            f"package-{key.package}: {key.peak} ran at once, and the limit is {key.limit}"
            for key in self.keys
            if key.over
        ]
        return found + [f"no result for {path}: {why}" for path, why in self.missing.items()]


def report(files: Iterable[SourceFile], runs: Sequence[Run], failures: Mapping[str, str], limit: int) -> Report:
    """Put the results of the tasks together.

    Args:
        files: what was to be indexed.
        runs: the results.
        failures: path -> why there is no result, where that is known.
        limit: how many may run at once in each package.
    """
    packages: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.started):
        packages.setdefault(run.package, []).append(run)
    keys = [
        Key(package=package, limit=limit, peak=peak((run.started, run.ended) for run in of), runs=tuple(of))
        for package, of in packages.items()
    ]
    seen = {run.path for run in runs}
    missing = {file.path: failures.get(file.path, "never finished") for file in files if file.path not in seen}
    return Report(tuple(sorted(keys, key=lambda key: (-key.tasks, key.package))), missing)


def run_of(result: Mapping[str, Any], sent: int) -> Run:
    """A task's result, and when it was sent."""
    return Run(sent=sent, **result)
