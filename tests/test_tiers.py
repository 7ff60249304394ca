"""No test of `make test-fast` starts a worker process, and a test that does so is not in `make test-fast`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tiers import SLOW_PLACES, TESTS, WORKER_PLACES, starts_worker
from tests.support.workers import Worker

DEMO = [sys.executable, "-m", "cachify_tasks.demo"]


def test_a_worker_is_refused_to_a_test_that_does_not_use_the_fixture(tmp_path, request):
    assert request.node.get_closest_marker("worker") is None

    with pytest.raises(AssertionError, match="starts a worker process: let it use the fixture worker_processes"):
        Worker(tmp_path).start()
    with pytest.raises(AssertionError, match="starts a worker process"):
        subprocess.run(DEMO, check=True)


def test_a_test_that_uses_the_fixture_is_in_the_tier_of_workers(worker_processes, request):
    assert worker_processes is Worker
    assert request.node.get_closest_marker("worker")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["python", "-m", "celery", "-A", "app", "worker", "-P", "solo"], True),
        ("celery -A app worker", True),
        (["python", "-m", "taskiq", "worker", "app:broker"], True),
        (["python", "-m", "celery", "-A", "app", "inspect", "ping"], False),
        ([Path("python"), "worker.py"], False),
        (["redis-server", "--port", "0"], False),
    ],
)
def test_a_worker_is_known_by_its_command_line(command, expected):
    assert starts_worker(command) is expected


@pytest.mark.parametrize("place", [*WORKER_PLACES, *SLOW_PLACES])
def test_a_place_of_a_tier_exists(place):
    assert (TESTS / place).exists()


@pytest.mark.parametrize(("target", "selection"), [("test-fast", "not worker and not slow"), ("test", None)])
def test_make_selects_by_these_markers(target, selection):
    makefile = (TESTS.parent / "Makefile").read_text("utf-8")

    recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)

    assert recipe
    assert re.findall(r"-m '(.+?)'", recipe[1]) == ([selection] if selection else [])
