"""Processes on this machine that pytest-celery takes for containers: a Redis of our own, and a worker."""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from pytest_celery import CeleryTestContainer
from pytest_docker_tools.exceptions import ContainerFailed
from redis import Redis

from cachify_tasks.testing.server import EmbeddedServer, EmbeddedServerError
from tests.support.processes import is_running
from tests.support.waiting import PATIENCE_S, wait_until
from tests.support.workers import Worker

Signal = str | int | None


class LocalContainer(CeleryTestContainer, ABC):
    """What pytest-celery asks of a container, answered by a process; what runs in it is said by the subclasses.

    There is no file system of its own, so `exec_run`, `get_files` and the tables of ports are missing.
    """

    def __init__(self, name: str) -> None:
        # Without super().__init__, which wants a container of Docker.
        self._name, self._id = name, uuid.uuid4().hex
        self._start_of_run = 0

    @property
    def id(self) -> str:
        return self._id

    @property
    def name(self) -> str:
        return self._name

    @property
    def status(self) -> str:
        """As Docker calls it: created, running or exited."""
        if self._pid() is None:
            return "created"
        return "running" if is_running(self._pid() or 0) else "exited"

    @property
    def attrs(self) -> dict[str, Any]:
        state = {"Status": self.status, "Running": self.status == "running", "Pid": self._pid() or 0}
        return {"Id": self.id, "Name": f"/{self.name}", "State": state, "Config": {"Hostname": self.id[:12]}}

    def logs(self) -> str:
        """Of all its runs, as Docker keeps them."""
        log = self._log()
        return log.read_text(errors="replace") if log.exists() else ""

    def start(self) -> None:
        # A prompt of the run before says nothing about this one.
        self._start_of_run = len(self.logs())
        self._start()

    def ready(self) -> bool:
        """Waits for the prompt of this run."""
        wait_until(self._has_prompted, PATIENCE_S, f"{self.name} is ready")
        return True

    def kill(self, signal: Signal = None) -> None:
        """Docker's `kill`: SIGKILL unless another signal is named; that one ends all of its processes."""
        self._kill(_signal(signal))

    def restart(self, timeout: float = 10) -> None:
        """Docker's `restart`: SIGTERM, SIGKILL after `timeout` seconds, start; returns when it is ready."""
        if self.status == "running":
            self._kill(signal.SIGTERM)
            with contextlib.suppress(AssertionError):
                wait_until(lambda: self.status != "running", timeout)
        self.remove()
        self.start()
        self.ready()

    def reload(self) -> None:
        """Nothing is remembered of the process, so that nothing is read again."""

    @abstractmethod
    def remove(self, *_: Any, **__: Any) -> None:
        """Ends all of its processes."""

    def teardown(self) -> None:
        self.remove()

    def _has_prompted(self) -> bool:
        if self.status == "exited":
            raise ContainerFailed(self, f"{self.name} ended before it was ready:\n{self.logs()[-3000:]}")
        return (self.ready_prompt or "") in self.logs()[self._start_of_run :]

    @abstractmethod
    def _pid(self) -> int | None: ...

    @abstractmethod
    def _log(self) -> Path: ...

    @abstractmethod
    def _start(self) -> None: ...

    @abstractmethod
    def _kill(self, sign: signal.Signals) -> None: ...


class LocalRedis(LocalContainer):
    """A server that is a broker or a result backend; a restart keeps its port and loses its data."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(name)
        self._file = folder / f"{name}.log"
        self._server = EmbeddedServer(extra_args=("--logfile", str(self._file)))

    @property
    def client(self) -> Redis:
        return Redis.from_url(self._server.url, decode_responses=True)

    @property
    def celeryconfig(self) -> dict[str, Any]:
        url = self._server.url
        return {"url": url, "host_url": url, "hostname": "127.0.0.1", "port": self._server.port, "vhost": "0"}

    @property
    def ready_prompt(self) -> str:
        return "Ready to accept connections"

    def remove(self, *_: Any, **__: Any) -> None:
        self._server.kill()

    def teardown(self) -> None:
        self._server.stop()

    def _pid(self) -> int | None:
        try:
            return self._server.pid
        except EmbeddedServerError:
            return None

    def _log(self) -> Path:
        return self._file

    def _start(self) -> None:
        self._server.start()

    def _kill(self, sign: signal.Signals) -> None:
        if sign == signal.SIGKILL:
            self._server.kill()
        else:
            os.kill(self._server.pid, sign)


class LocalWorker(LocalContainer):
    """A worker of the `app` module in `folder`, under the node name that pytest-celery gives it."""

    def __init__(self, folder: Path, name: str, queue: str, *, concurrency: int = 2) -> None:
        super().__init__(name)
        self._queue = queue
        node = ["-n", f"{name}@{self.id[:12]}", "-Q", queue]  # the last -n counts
        self._worker = Worker(folder, name=name, concurrency=concurrency, args=node)
        self._started = False

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {}

    @property
    def ready_prompt(self) -> str:
        return " ready."

    def worker_name(self) -> str:
        return self.name

    def worker_queue(self) -> str:
        return self._queue

    def log_level(self) -> str:
        return "INFO"

    def version(self) -> str:
        from celery import __version__

        return __version__

    def remove(self, *_: Any, **__: Any) -> None:
        self._worker.end()

    def _pid(self) -> int | None:
        return self._worker.pid if self._started else None

    def _log(self) -> Path:
        return self._worker.log

    def _start(self) -> None:
        self._started = True
        self._worker.start(ready=False)

    def _kill(self, sign: signal.Signals) -> None:
        if sign == signal.SIGKILL:
            self._worker.end()  # children included: they are in the container, too
        else:
            self._worker.kill(sign)


def _signal(given: Signal) -> signal.Signals:
    if given is None:
        return signal.SIGKILL
    return signal.Signals[given] if isinstance(given, str) else signal.Signals(given)
