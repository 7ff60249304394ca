"""The demo as it is run, on some of the files."""

import os
import re
import signal
import subprocess
import sys

import pytest

from cachify_tasks.demo.worker import Worker, WorkerError
from tests.support.processes import is_running, running_descendants
from tests.support.waiting import PATIENCE_S, wait_until


def demo(*arguments, cwd, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "cachify_tasks.demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "TMPDIR": str(cwd), **environment},
    )


def read_until(process, pattern):
    for line in process.stdout:
        if re.search(pattern, line):
            return
    pytest.fail(f"{pattern!r} was never printed: {process.stderr.read()}")


def assert_all_gone(pids):
    wait_until(lambda: not [pid for pid in pids if is_running(pid)], message="the end of every process")


def test_the_demo_indexes_files_within_their_limits(tmp_path):
    # Addresses of other servers, which it must not use.
    elsewhere = dict.fromkeys(("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "CACHIFY_URL"), "redis://127.0.0.1:1/0")

    with demo("--files", "60", cwd=tmp_path, **elsewhere) as process:
        out, err = process.communicate(timeout=200)

    assert (process.returncode, err) == (0, "")
    rows = re.findall(r"^package-(\S+|\(top level\)) +(\d+) +(\d+) +2 +(\d+)$", out, re.MULTILINE)
    assert sum(int(tasks) for _, tasks, _, _ in rows) == 60
    assert max(int(peak) for _, _, peak, _ in rows) <= 2
    assert sum(int(parked) for *_, parked in rows) > 0
    assert re.search(r"^  60 of 60 done", out, re.MULTILINE)
    assert "every file has its result" in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "moment", ["a Celery worker with", r"[1-9]\d* of 400 done"], ids=["at the start", "in the middle"]
)
@pytest.mark.parametrize(
    ("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)], ids=["INT", "TERM", "KILL"]
)
def test_a_demo_that_is_ended_leaves_no_process(tmp_path, sign, code, moment):
    with demo("--files", "400", cwd=tmp_path) as process:
        read_until(process, moment)
        others = wait_until(lambda: running_descendants(process.pid))
        assert any("redis" in command or "valkey" in command for command in others.values())

        process.send_signal(sign)
        process.communicate(timeout=PATIENCE_S)

    assert process.returncode == code
    assert_all_gone(others)


def test_a_worker_that_cannot_start_says_why(redis_server, tmp_path):
    with (
        pytest.raises(WorkerError, match="no_such_module was not found"),
        Worker("no_such_module", redis_server.url, concurrency=1, folder=tmp_path) as worker,
    ):
        wait_until(worker.check, timeout=PATIENCE_S)


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ((), {"CACHIFY_TEST_REDIS": "/nowhere/redis-server"}, "the demo could not run: CACHIFY_TEST_REDIS"),
        (("--files", "none"), {}, "'none' is not a number of at least 1"),
    ],
    ids=["no server", "no number"],
)
def test_what_cannot_work_is_said_at_once(tmp_path, arguments, environment, message):
    with demo(*arguments, cwd=tmp_path, **environment) as process:
        _, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 2
    assert message in err
    assert "Traceback" not in err


def test_without_the_extra_the_demo_says_what_to_install(tmp_path):
    (tmp_path / "celery").mkdir()
    (tmp_path / "celery" / "__init__.py").write_text("raise ModuleNotFoundError('no celery', name='celery')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])

    with demo(cwd=tmp_path, PYTHONPATH=path) as process:
        _, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 2
    assert err == "the demo needs the package 'celery': pip install 'cachify-tasks[demo]'\n"
