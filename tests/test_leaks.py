import subprocess
import sys
import threading

import pytest
import redis

from tests.support import leaks
from tests.support.leaks import LeakCheck
from tests.support.processes import is_running

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
SLEEP_IN_A_GRANDCHILD = [
    sys.executable,
    "-c",
    f"import subprocess as s; print(s.Popen({SLEEP!r}, stdout=s.DEVNULL, stderr=s.DEVNULL).pid, flush=True)",
]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(leaks, "GRACE_S", 0.1)


def found(check: LeakCheck, *, allowed: str = "", redis_url: str | None = None) -> list[str]:
    return check.leaks(allowed=frozenset(allowed.split()), shared_pids=[], redis_url=redis_url)


def test_a_thread_that_runs_on_is_a_leak_unless_it_is_a_daemon():
    check = LeakCheck()
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="forgotten")
    daemon = threading.Thread(target=end.wait, name="cachify-lease-renewer", daemon=True)
    thread.start()
    daemon.start()

    try:
        assert found(check) == ["thread 'forgotten' is no daemon and runs on"]
        assert found(check, allowed="threads") == []
    finally:
        end.set()
        thread.join()
    assert found(check) == []


def test_a_process_that_runs_on_is_a_leak_and_is_ended():
    check = LeakCheck()
    with subprocess.Popen(SLEEP) as process:
        assert found(check, allowed="processes") == []

        leak = found(check)

        assert len(leak) == 1
        assert leak[0].startswith(f"process {process.pid} runs on: ")
        assert process.wait() < 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to us")
def test_the_orphan_of_a_child_is_a_leak_too():
    check = LeakCheck()
    child = subprocess.run(SLEEP_IN_A_GRANDCHILD, stdout=subprocess.PIPE, text=True, check=True)
    orphan = int(child.stdout)
    assert is_running(orphan)

    leak = found(check)

    assert [line.split()[1] for line in leak] == [str(orphan)]


def test_a_key_that_never_expires_is_a_leak(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        client.set("forgotten", 1)
        client.set("mortal", 1, ex=60)

        assert found(LeakCheck(), redis_url=redis_url) == ["key without TTL: forgotten (string)"]
        assert found(LeakCheck(), redis_url=redis_url, allowed="keys") == []
        client.delete("forgotten")


@pytest.mark.leaks("keys", reason="shows that the marker is heeded")
def test_a_marked_test_may_leave_a_key(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        client.set("kept", 1)


def test_the_next_test_finds_an_empty_database(redis_url, broker_url):
    for url in (redis_url, broker_url):
        with redis.Redis.from_url(url) as client:
            assert client.dbsize() == 0


def test_a_private_server_is_ended_after_the_test(private_server):
    server = private_server(append_only=True)

    server.kill()
    server.restart()

    with redis.Redis.from_url(server.url) as client:
        assert client.ping()
