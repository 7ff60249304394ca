"""A prefork worker of one of the apps here, in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent


@contextmanager
def worker_process(app: str, queue: str, concurrency: int, **env: str) -> Iterator[None]:
    """It has been started, and is perhaps not ready yet; afterwards it is ended. env: what its app is told besides."""
    command = [
        sys.executable, "-m", "celery", "-A", app, "worker", "-c", str(concurrency), "-P", "prefork", "-l", "ERROR",
        "--without-gossip", "--without-mingle", "--without-heartbeat", "-n", f"{queue}@bench", "-Q", queue,
    ]  # fmt: skip
    process = subprocess.Popen(
        command, env={**os.environ, **env}, cwd=HERE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
