"""Run a piece of Python as a program of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import dedent

from tests.support.waiting import PATIENCE_S


def run(code: str, *args: str, timeout: float = PATIENCE_S) -> str:
    """What the program prints; an error if it fails."""
    done = subprocess.run(
        [sys.executable, "-c", dedent(code), *args], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Program:
    """A program that talks line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> str:
        """The next line it prints; it fails the test if it ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the program ended with {self.process.wait()}"
        return line.strip()

    def go(self) -> None:
        """Let its next input() return."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)


@contextmanager
def program(code: str, *args: str) -> Iterator[Program]:
    """Start a program; it is killed in the end, if it still runs."""
    with subprocess.Popen(
        [sys.executable, "-u", "-c", dedent(code), *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Program(process)
        finally:
            process.kill()
