"""What the stamps of a storm's tasks prove: who held a slot at which moments, who ran twice, and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

TOLD_S = 2.0  # an end is told to the store within so many seconds, under this load


@dataclass(slots=True)
class Run:
    """One run of a task's body.

    Attributes:
        main: the pid of its worker's main process.
        held: the last moment at which its lease is known to have been valid; None: it never was.
        end: when the body ended; None: it was killed.
        lost: it was told LeaseLost.
    """

    id: str
    key: str
    limit: int
    token: int
    pid: int
    main: int
    begin: float
    held: float | None = None
    end: float | None = None
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done to a process, when, and to which pid: "worker", "child", "stop"; "ended": a worker, by Celery."""

    kind: str
    pid: int
    t: float


def runs_of(lines: Iterable[dict[str, Any]]) -> list[Run]:
    """The runs, in the order of their begins."""
    found: dict[tuple[str, int, int], Run] = {}
    for line in lines:
        name = line["id"], line["token"], line["pid"]
        if line["event"] == "begin":
            found[name] = Run(
                line["id"], line["key"], line["limit"], line["token"], line["pid"], line["main"], line["t"]
            )
        elif line["event"] == "held":
            found[name].held = line["at"]
        elif line["event"] == "lost":
            found[name].lost = True
        else:
            found[name].end = line["t"]
    return sorted(found.values(), key=lambda run: run.begin)


def peaks(runs: Iterable[Run], *, valid: bool = True) -> dict[str, tuple[int, int]]:
    """For each key the most runs at one moment, and its limit.

    valid: a run counts from its begin to the last moment at which its lease was valid. A run that saw no LeaseLost was
    valid to its end, for that is when it asked last. Else every run counts to its end.
    """
    events, limits = defaultdict[str, list[tuple[float, int]]](list), dict[str, int]()
    for run in runs:
        limits[run.key] = run.limit
        until = run.held if valid else run.end if run.end is not None else run.held
        if until is not None and until >= run.begin:
            events[run.key] += [(run.begin, 1), (until, -1)]
    found = {}
    for key, limit in limits.items():
        now = most = 0
        for _, change in sorted(events[key]):
            now += change
            most = max(most, now)
        found[key] = most, limit
    return found


def over_limit(runs: Iterable[Run]) -> dict[str, tuple[int, int]]:
    """The keys that had more valid leases at one moment than their limit."""
    return {key: (most, limit) for key, (most, limit) in peaks(runs).items() if most > limit}


def second_runs(
    runs: Iterable[Run], faults: Iterable[Fault], let_go: Collection[str] = ()
) -> dict[str, list[tuple[Run, Run]]]:
    """The runs after a task's first one, each with the one before it, by why that one did not count.

    In the order of their grants: a run in a stopped worker may begin after the one that took its place.

    let_go: ids of tasks whose job Celery has thrown away with its connection to the broker, as it does with what has
    begun unknown to it; their messages come again.
    """
    faults, last, found = list(faults), dict[str, Run](), defaultdict[str, list[tuple[Run, Run]]](list)
    for run in sorted(runs, key=lambda run: run.token):
        if run.id in last:
            why = _reason(last[run.id], faults)
            if why == UNEXPLAINED and run.id in let_go:
                why = "let go with the connection"
            found[why].append((last[run.id], run))
        last[run.id] = run
    return dict(found)


def _reason(run: Run, faults: list[Fault]) -> str:
    ended = run.end if run.end is not None else float("inf")
    for fault in faults:
        begin = run.begin - TOLD_S if fault.pid == run.main else run.begin  # its process may have had the job already
        if fault.pid in (run.pid, run.main) and begin <= fault.t <= ended + TOLD_S:
            if fault.kind == "stop":
                return "lease lost in a stopped worker"
            if fault.kind == "ended":
                return "worker ended by Celery"
            return f"{fault.kind} killed" + (" before the end was told" if ended <= fault.t else "")
    return "lease lost" if run.lost else UNEXPLAINED


UNEXPLAINED = "unexplained"


def inversions(runs: Iterable[Run], sent: list[str]) -> int:
    """How many neighbours began in another order than they were sent, in all keys."""
    place, last, count = {name: n for n, name in enumerate(sent)}, dict[str, int](), 0
    for run in sorted(runs, key=lambda run: run.begin):
        count += place[run.id] < last.get(run.key, -1)
        last[run.key] = place[run.id]
    return count


def told(counts: dict[str, list[tuple[Run, Run]]]) -> str:
    return ", ".join(f"{len(runs)} {why}" for why, runs in sorted(counts.items())) or "none"


def often(runs: Iterable[Run]) -> Counter[str]:
    return Counter(run.id for run in runs)
