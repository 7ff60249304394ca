"""A Celery worker that ends with the process that started it, however that process ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

ELSEWHERE: Final = {
    "CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND", "CACHIFY_URL",
}  # fmt: skip
STOP_S: Final = 5.0
TAIL: Final = 15  # lines of the log that explain an unexpected end

# This program leads a process group in which the worker and its children live. When our process ends, even by SIGKILL,
# the kernel closes our end of its stdin, and it kills the whole group. A byte on stdin asks for a warm shutdown.
_KEEPER: Final = """
import os, signal, subprocess, sys, threading
worker = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
def listen():
    while os.read(0, 1):
        worker.terminate()
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=listen, daemon=True).start()
worker.wait()
os.killpg(0, signal.SIGKILL)
"""


class WorkerError(RuntimeError):
    """The worker has ended unexpectedly."""


class Worker:
    """`celery worker` with prefork children, in a process group of its own.

    Ctrl-C at the terminal does not reach it. At the end of a `with` block it shuts down warmly; if an exception leaves
    the block, it is killed.

    Args:
        app: the module that has the app, as for `celery -A`.
        url: the broker and result backend.
        concurrency: how many children.
        folder: where `app` is found.
        options: more options of `celery worker`.

    Example:
        with EmbeddedServer() as server, Worker("shop", server.url, concurrency=2, folder=Path("src")):
            ...
    """

    def __init__(
        self, app: str, url: str, *, concurrency: int, folder: Path, options: Sequence[str] = ("--loglevel", "WARNING")
    ) -> None:
        self._command = [
            *(sys.executable, "-m", "celery", "-A", app, "-b", url, "--result-backend", url),
            *("worker", "--pool", "prefork", "-c", str(concurrency), *options),
            *("--without-gossip", "--without-mingle"),
        ]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def start(self) -> Self:
        """Start the worker and return this object. It takes about a second until the worker consumes."""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `kill`
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _KEEPER, *self._command],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=self._folder,
            env=without_urls(os.environ),
        )
        return self

    def check(self) -> None:
        """Raise `WorkerError`, with the end of the worker's log, if the worker has ended."""
        if self._process is None or self._process.poll() is not None:
            raise WorkerError(f"the worker has ended; the end of its log:\n{self.log()}")

    def log(self) -> str:
        """The last lines of the worker's log."""
        if self._log is None:
            return ""
        # pread, because the worker writes at the position that a seek would change.
        size = os.fstat(self._log.fileno()).st_size
        return "\n".join(os.pread(self._log.fileno(), size, 0).decode(errors="replace").splitlines()[-TAIL:])

    def stop(self) -> None:
        """Shut the worker down warmly; kill it after five seconds."""
        try:
            if self._process is not None and self._process.stdin is not None:
                with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                    self._process.stdin.write(b".")
                    self._process.wait(STOP_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill the worker and its children. Does nothing if they have ended."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.wait()
        if self._log is not None:
            self._log.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc_type is None:
            self.stop()
        else:
            self.kill()


def without_urls(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without the variables that would lead Celery or `setup` to another server."""
    return {name: value for name, value in environment.items() if name not in ELSEWHERE}


def forget_urls() -> None:
    """Remove the same variables from the environment of this process."""
    for name in ELSEWHERE:
        os.environ.pop(name, None)
