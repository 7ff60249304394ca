"""A warm shutdown waits for processes that have not accepted their job, and is kept by none that cannot."""

import fcntl
import os
import resource
from types import SimpleNamespace
from typing import Any

import pytest

from cachify_tasks.celery import accepted_jobs
from cachify_tasks.celery.accepted_jobs import await_accepted


@pytest.fixture
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Child:
    """A process that has read a job; `accept` is what its report does."""

    def __init__(self, least_fd: int = 0) -> None:
        out, self._report = os.pipe()
        self.outqR_fd = fcntl.fcntl(out, fcntl.F_DUPFD, least_fd)
        os.close(out)
        self.alive = True
        self.job = SimpleNamespace(_accepted=False, _write_to=self)

    def _is_alive(self) -> bool:
        return self.alive

    def report(self) -> None:
        os.write(self._report, b"x")

    def accept(self) -> None:
        os.read(self.outqR_fd, 1)
        self.job._accepted = True

    def close(self) -> None:
        os.close(self.outqR_fd)
        os.close(self._report)


@pytest.fixture
def make_child():
    made: list[Child] = []

    def make(**options: Any) -> Child:
        made.append(Child(**options))
        return made[-1]

    yield make
    for child in made:
        child.close()


def wait_for(child: Child, read: Any) -> None:
    hub: Any = SimpleNamespace(readers={child.outqR_fd: (read, ())})
    pool: Any = SimpleNamespace(_cache={1: child.job})
    await_accepted(hub, pool)


def test_it_returns_when_the_report_has_come(make_child):
    child = make_child()
    child.report()

    wait_for(child, child.accept)

    assert child.job._accepted


def test_a_descriptor_above_1023_is_waited_for(make_child, many_files):
    child = make_child(least_fd=1024)
    child.report()

    wait_for(child, child.accept)

    assert child.job._accepted


def test_the_rest_of_a_report_that_came_in_part_is_read(make_child):
    child = make_child()
    child.report()

    def rest():
        child.accept()
        yield

    wait_for(child, rest())

    assert child.job._accepted


@pytest.mark.parametrize("error", [OSError("end of file during message"), EOFError()], ids=repr)
def test_a_report_that_breaks_off_does_not_break_the_shutdown(make_child, error):
    child = make_child()
    child.report()

    def dies() -> None:
        child.alive = False
        raise error

    wait_for(child, dies)

    assert not child.job._accepted


def test_a_process_that_has_died_is_not_waited_for(make_child):
    child = make_child()
    child.alive = False

    wait_for(child, child.accept)

    assert not child.job._accepted


def test_a_process_that_was_stopped_is_not_waited_for_for_ever(make_child, monkeypatch):
    monkeypatch.setattr(accepted_jobs, "PATIENCE", 0.05)
    monkeypatch.setattr(accepted_jobs, "LOOK", 0.01)
    child = make_child()

    wait_for(child, child.accept)

    assert not child.job._accepted
