"""Which files are indexed: the source files of the running Python's standard library."""

from __future__ import annotations

import random
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

TOP_LEVEL: Final = "(top level)"
AT_A_TIME: Final = 6  # packages
TESTS: Final = {"test", "idle_test"}
NO_LIBRARY: Final = {"site-packages", "dist-packages", "__pycache__"}  # what was installed or compiled


class SourceFile(NamedTuple):
    """A file, and the top-level package it belongs to."""

    package: str
    path: str


def library() -> Path:
    """The folder of the standard library."""
    return Path(sysconfig.get_path("stdlib"))


def source_files(folder: Path) -> tuple[list[SourceFile], int]:
    """The folder's Python files in the order of their paths, and how many more are in folders of tests."""
    found = sorted(path.relative_to(folder) for path in _walk(folder))
    kept = [path for path in found if TESTS.isdisjoint(path.parts)]
    return [SourceFile(_package(path), str(folder / path)) for path in kept], len(found) - len(kept)


def batches(files: Sequence[SourceFile], limit: int | None) -> list[SourceFile]:
    """The order of sending: a few packages at a time, their files mixed, in the same way at each run.

    So the tasks of each key exceed its limit, and tasks of other keys can run in the meantime. If there are more than
    `limit` files, only that many are returned, evenly chosen.
    """
    if limit is not None and limit < len(files):
        files = [files[number * len(files) // limit] for number in range(limit)]
    packages = sorted({file.package for file in files})
    order = random.Random(1)
    sent = []
    for first in range(0, len(packages), AT_A_TIME):
        batch = [file for file in files if file.package in packages[first : first + AT_A_TIME]]
        order.shuffle(batch)
        sent += batch
    return sent


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name in NO_LIBRARY or path.name.startswith("config-"):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
        elif path.suffix == ".py" and path.is_file():
            yield path


def _package(path: Path) -> str:
    return path.parts[0] if len(path.parts) > 1 else TOP_LEVEL
