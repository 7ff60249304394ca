"""Every example runs as a script and prints what its docstring promises."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SPAN = r"(\d+\.\d) s to +(\d+\.\d) s"


def run(name: str) -> str:
    """What the example prints."""
    # Addresses of other servers, which an example must not use. A script finds its neighbours, also in `make test`.
    environment = {**os.environ, "CELERY_BROKER_URL": "redis://127.0.0.1:1/0", "CACHIFY_URL": "redis://127.0.0.1:1/0"}
    environment.pop("PYTHONSAFEPATH", None)
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


def sorted_lines(text: str) -> list[str]:
    return sorted(line for line in text.splitlines() if line)


def test_raise_fails_the_tasks_that_find_the_pool_full():
    full = "FAILURE: pool 'report-ann' is full: 1 of 1 slots are taken"
    retried = "with autoretry_for: ['report for ann', 'report for ann', 'report for ann']"

    printed = sorted_lines(run("celery_raise.py"))

    assert printed == [full, full, "SUCCESS: report for ann", "SUCCESS: report for ben", retried]


def test_drop_revokes_or_answers_with_the_result_that_was_given():
    printed = sorted_lines(run("celery_drop.py"))

    assert printed == [
        "Drop():         REVOKED",
        "Drop():         SUCCESS",
        "Drop(result=0): 0 new articles",
        "Drop(result=0): 17 new articles",
    ]


def test_park_runs_all_in_order_and_what_is_urgent_first():
    printed = run("park.py").splitlines()

    assert printed[:3] == ["in line: yes", "in the order of their starts: [1, 2, 3, 4, 5, 6]", "one at a time: True"]
    assert re.fullmatch(r"longest pause between two: \d+ ms", printed[3])
    assert printed[4:] == ["too many mails", "['first is sent', 'urgent is sent', 'second is sent', 'third is sent']"]


def test_reschedule_runs_all_two_at_a_time():
    printed = run("celery_reschedule.py")

    for tenant in ("acme", "bolt"):
        spans = [(float(start), float(end)) for start, end in re.findall(rf"{tenant}: +{SPAN}", printed)]
        assert len(spans) == 4
        assert all(sum(other <= start < end for other, end in spans) <= 2 for start, _ in spans)
    assert "two pings: ['REVOKED', 'SUCCESS']" in printed


def test_cached_fallback_answers_with_the_last_good_result():
    assert run("celery_cached_fallback.py").splitlines() == [
        "free: ['a page about redis']",
        "full: ['a page about redis']",
        "full, never searched before: []",
        "the slow one is still running: True",
        "then: ['a page about everything']",
    ]


def test_a_callback_gets_the_arguments_and_runs_in_the_worker():
    first, *rest = run("celery_callback.py").splitlines()

    own = first.removeprefix("this is process ")
    later = [line for line in rest if "tonight" in line]
    assert len(rest) == 3
    assert len(later) == 2
    assert own not in re.findall(r"process (\d+)", "".join(rest))
    mails = [re.findall(r"'(\w+)' to (\w+)", line) for line in rest]
    assert mails == [[("hello", "ann")], [("bill", "ben")], [("hello", "cleo")]]


def test_plain_pools_are_shared_by_threads_and_coroutines():
    printed = run("plain_pool.py")

    assert re.search(r"^2 held; this slot's fencing token is \d+$", printed, re.MULTILINE)
    assert "full: 2 of 2 of 'reports'" in printed
    assert "0 held after the block" in printed
    assert printed.count("'busy'") == 5
    assert printed.count("'made in thumbnails-64'") == 3
    assert printed.count(": fetched") == 2
    assert printed.count(": later") == 1
    assert "held by this coroutine: 1" in printed


def test_calls_wait_in_one_queue_in_the_order_of_arrival():
    assert run("wait.py").splitlines() == [
        str([f"report {number}" for number in range(6)]),
        "pool 'door' is full: 1 of 1 slots are taken; waited for 0.3 s",
        "thread 0, coroutine 0, thread 1, coroutine 1, thread 2, coroutine 2",
    ]


def test_http_connections_are_used_again():
    assert run("cachepool_http.py").splitlines() == [
        "40 pages, 'you asked for /39'; four connections at most: True",
        "lent 40 times, each given back: True",
        "the reader gave up; idle now: 0",
        "you asked for /after",
        "you asked for /new over a new connection: True",
        "all that were opened are closed",
    ]


def test_coroutines_take_turns_in_connections():
    printed = run("connection_pool_sqlite.py").splitlines()

    assert printed[:6] == [
        "20 orders over 3 connections",
        "a broken one is lent again: False",
        "no connection within 0.05 s: 3 of 3 connections are lent, 1 acquires wait",
        "open after the end: 1",
        "open when it is back: 0",
        "the ticker went on: True",
    ]
    if os.getenv("CACHIFY_TEST_POSTGRES_URL"):
        assert printed[6:] == ["PostgreSQL: 20 queries in 3 sessions"]


def test_a_pool_hashes_files_while_the_loop_goes_on():
    first, counted, same, ticks = run("advanced_pool_hashing.py").splitlines()

    assert first == "the urgent ones before all others: True"
    assert re.fullmatch(r"\d{3,} files, \d{3,} different ones, by [1-4] threads", counted)
    assert same == "the same hashes: True"
    assert re.fullmatch(r"ticks: \d+, the latest was \d+\.\d ms late", ticks)


def test_flask_runs_two_exports_at_a_time():
    pytest.importorskip("flask")

    printed = run("flask_app.py")

    assert "['corner.csv', 'corner.csv', 'corner.csv', 'corner.csv']" in printed
    assert re.search(r"at most: [12]$", printed, re.MULTILINE)


def test_django_runs_two_imports_at_a_time():
    pytest.importorskip("django")

    printed = run("django_project/run.py")

    assert re.search(r"^[12] imports run for acme$", printed, re.MULTILINE)
    assert "['prices of acme', 'prices of acme', 'prices of acme', 'prices of acme']" in printed


def test_the_unit_tests_pass():
    printed = run("unit_test_a_pooled_task.py")

    assert re.search(r"^Ran 8 tests", printed, re.MULTILINE)
    assert printed.rstrip().endswith("OK")


def test_no_example_is_left_out():
    scripts = {path.name for path in EXAMPLES.glob("*.py") if not path.name.startswith("_")} | {"django_project/run.py"}

    tested = set(re.findall(r'run\("([\w/.]+)"\)', Path(__file__).read_text(encoding="utf-8")))

    assert tested == scripts


def test_the_readme_s_picture_is_drawn_from_a_run_and_has_every_task(tmp_path):
    script = EXAMPLES.parent / "docs/assets/tasks_per_key.py"

    subprocess.run([sys.executable, str(script), str(tmp_path / "drawn.svg")], check=True, timeout=200)

    committed = script.with_name("tasks-per-key.svg").read_text(encoding="utf-8")
    for picture in (committed, (tmp_path / "drawn.svg").read_text(encoding="utf-8")):
        lanes = set(re.findall('<rect class="(?:atonce|waited)" x="[0-9.]+" y="([0-9]+)" width', picture))
        assert len(re.findall('class="number"', picture)) == 19
        assert len(lanes - {"50"}) == 6  # two of each tenant; at 50 is the legend
