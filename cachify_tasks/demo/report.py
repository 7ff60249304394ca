"""What the tasks' own time stamps show: was each limit kept, and does each file have a result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .files import SourceFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One task that has run; times are nanoseconds of one clock."""

    package: str
    path: str
    started: int
    ended: int
    parked: bool
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
    tasks: int
    parked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole run.

    Attributes:
        keys: the busiest first.
        missing: the path of each file without a result, and why.
    """

    keys: tuple[Key, ...]
    runs: tuple[Run, ...]
    missing: Mapping[str, str]

    @property
    def peak(self) -> int:
        """The most tasks of all keys that ran at once."""
        return peak((run.started, run.ended) for run in self.runs)

    @property
    def problems(self) -> list[str]:
        """What must not be; empty when all is well."""
        found = [
            f"package-{key.package}: {key.peak} ran at once, and the limit is {key.limit}"
            for key in self.keys
            if key.peak > key.limit
        ]
        return found + [f"no result for {path}: {why}" for path, why in self.missing.items()]

    def text(self) -> str:
        """A line for each key, their sum, and what was counted."""
        width = max([len(key.package) for key in self.keys], default=0) + len("package-")
        lines = [f"{'key':<{width}}  tasks   peak  limit  parked"]
        lines += [
            f"{f'package-{key.package}':<{width}}  {key.tasks:5}  {key.peak:5}  {key.limit:5}  {key.parked:6}"
            for key in self.keys
        ]
        parked = sum(key.parked for key in self.keys)
        lines.append(f"{'all':<{width}}  {len(self.runs):5}  {self.peak:5}  {'':5}  {parked:6}")
        counted = [sum(getattr(run, what) for run in self.runs) for what in ("lines", "functions", "classes")]
        lines.append("\n{} files: {:,} lines, {:,} functions, {:,} classes.".format(len(self.runs), *counted))
        unparsed = sum(not run.parsed for run in self.runs)
        if unparsed:
            lines.append(f"Files that are not valid Python, on purpose: {unparsed}. Only their lines were counted.")
        return "\n".join(lines)


def report(files: Iterable[SourceFile], runs: Sequence[Run], failures: Mapping[str, str], limit: int) -> Report:
    """Judge the results of the tasks.

    Args:
        files: what was to be indexed.
        runs: the results.
        failures: path -> why there is no result, where that is known.
        limit: how many may run at once in each package.
    """
    packages: dict[str, list[Run]] = {}
    for run in runs:
        packages.setdefault(run.package, []).append(run)
    keys = [
        Key(
            package=package, limit=limit, peak=peak((run.started, run.ended) for run in of),
            tasks=len(of), parked=sum(run.parked for run in of),
        )
        for package, of in packages.items()
    ]  # fmt: skip
    seen = {run.path for run in runs}
    missing = {file.path: failures.get(file.path, "never finished") for file in files if file.path not in seen}
    busiest_first = sorted(keys, key=lambda key: (-key.tasks, key.package))
    return Report(keys=tuple(busiest_first), runs=tuple(runs), missing=missing)


def peak(intervals: Iterable[tuple[int, int]]) -> int:
    """The most that ran at once. One that starts at the moment another ends does not overlap it."""
    running = highest = 0
    # At one moment ends come before starts; what took no time has run all the same.
    for _, change in sorted(event for start, end in intervals for event in ((start, 1), (max(end, start + 1), -1))):
        running += change
        highest = max(highest, running)
    return highest
