"""See which processes are ours, and whether they still run."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
# A name of its own, for mypy would otherwise check one branch alone.
ON_LINUX = sys.platform == "linux"
# Helpers that the standard library starts once and keeps.
KEPT_BY_PYTHON = (
    "multiprocessing.resource_tracker",
    "multiprocessing.semaphore_tracker",
    "multiprocessing.forkserver",
)


def adopt_orphans() -> None:
    """Make grandchildren whose parent died our children (Linux), so that a leak of them is seen."""
    if ON_LINUX:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def is_running(pid: int) -> bool:
    """Whether this process runs; one that ended and was not waited for does not."""
    return any(found == pid for found, _, _ in _running_processes(pid))


def running_children() -> dict[int, str]:
    """Our children that run now: pid and command line."""
    own = os.getpid()
    return {
        pid: command
        for pid, parent, command in _our_processes()
        if parent == own and not any(kept in command for kept in KEPT_BY_PYTHON)
    }


def running_descendants(pid: int) -> dict[int, str]:
    """Children of this process that run now, and theirs: pid and command line."""
    processes = list(_running_processes())
    found: dict[int, str] = {}
    parents = {pid}
    while parents:
        below = {child: command for child, parent, command in processes if parent in parents}
        found.update(below)
        parents = set(below)
    return found


def _our_processes() -> Iterator[tuple[int, int, str]]:
    """At least our own children, as `_running_processes` describes them.

    Linux lists the children of each thread. Reading these lists takes a hundredth of the time that it takes to look
    at every process of the machine, and the leak check does it several times for each test.
    """
    lists = list(Path("/proc/self/task").glob("*/children"))
    if not lists:  # another system, or a kernel without these lists
        yield from _running_processes()
    for children in lists:
        with contextlib.suppress(OSError):  # the thread has ended
            for pid in children.read_text().split():
                yield from _running_processes(int(pid))


def _running_processes(only: int | None = None) -> Iterator[tuple[int, int, str]]:
    """Pid, parent's pid and command line of every process, or of one, that has not ended."""
    if ON_LINUX:
        for folder in Path("/proc").glob(str(only or "[0-9]*")):
            # It may end while we read.
            with contextlib.suppress(OSError):
                stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
                # The name in parentheses may hold anything; state and parent follow the last one.
                state, parent = stat.rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    command = (folder / "cmdline").read_text(encoding="utf-8", errors="replace")
                    yield int(folder.name), int(parent), command.replace("\0", " ").strip()
        return
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat=,args="], capture_output=True, text=True, check=True)
    for line in listing.stdout.splitlines():
        pid, parent, state, command = (*line.split(None, 3), "")[:4]
        own_ps = command.startswith("ps -A -o pid=")
        if not state.startswith("Z") and not own_ps and only in (None, int(pid)):
            yield int(pid), int(parent), command
