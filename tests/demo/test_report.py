"""The demo's judgement, on made-up runs: it must be able to fail."""

import random

import pytest

from cachify_tasks.demo.files import SourceFile, batches, source_files
from cachify_tasks.demo.report import Run, peak, report
from cachify_tasks.demo.tasks import count


def a_run(package="json", path="a.py", started=0, ended=10, parked=False, lines=1, parsed=True):
    return Run(
        package=package, path=path, started=started, ended=ended, parked=parked,
        lines=lines, functions=0, classes=0, parsed=parsed,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("intervals", "highest"),
    [
        pytest.param([], 0, id="nothing"),
        pytest.param([(0, 10)], 1, id="one"),
        pytest.param([(0, 10), (10, 20)], 1, id="one after the other"),
        pytest.param([(0, 10), (9, 20)], 2, id="they overlap by one"),
        pytest.param([(0, 100), (1, 2), (3, 4), (5, 6)], 2, id="short ones beside a long one"),
        pytest.param([(0, 10), (0, 10), (0, 10)], 3, id="all the same"),
        pytest.param([(0, 30), (10, 40), (29, 50)], 3, id="three at one moment only"),
        pytest.param([(5, 5), (5, 5)], 2, id="in no time"),
    ],
)
def test_the_peak_is_the_most_that_ran_at_once(intervals, highest):
    assert peak(intervals) == highest
    assert peak(reversed(intervals)) == highest


def test_the_peak_is_what_counting_at_every_moment_gives():
    chance = random.Random(1)
    for _ in range(100):
        starts = [chance.randrange(50) for _ in range(12)]
        intervals = [(start, start + chance.randrange(1, 15)) for start in starts]

        counted = max(sum(start <= moment < end for start, end in intervals) for moment in range(70))

        assert peak(intervals) == counted


def test_a_third_run_at_once_is_reported():
    runs = [a_run(path=f"{n}.py", started=n, ended=n + 10) for n in range(3)]

    found = report([SourceFile("json", run.path) for run in runs], runs, {}, limit=2)

    assert found.problems == ["package-json: 3 ran at once, and the limit is 2"]


def test_the_text_has_a_line_for_each_key_and_their_sum():
    runs = [a_run(path="a.py"), a_run(path="b.py", parked=True, started=20, ended=30)]
    runs += [a_run(package="email", path="c.py", lines=1000, parsed=False)]

    text = report([], runs, {}, limit=2).text()

    assert text.splitlines() == [
        "key            tasks   peak  limit  parked",
        "package-json       2      1      2       1",
        "package-email      1      1      2       0",
        "all                3      2              1",
        "",
        "3 files: 1,002 lines, 0 functions, 0 classes.",
        "Files that are not valid Python, on purpose: 1. Only their lines were counted.",
    ]


def test_a_run_without_any_task_can_be_reported():
    assert "0 files" in report([], [], {}, limit=2).text()


def test_runs_of_different_keys_may_overlap():
    runs = [a_run(package=f"package{n}", path=f"{n}.py") for n in range(5)]

    found = report([SourceFile(run.package, run.path) for run in runs], runs, {}, limit=1)

    assert found.problems == []
    assert found.peak == 5


def test_a_file_without_a_result_is_reported_with_the_reason():
    files = [SourceFile("json", name) for name in ("a.py", "b.py", "c.py")]

    found = report(files, [a_run(path="a.py")], {"b.py": "FAILURE: OSError()"}, limit=2)

    assert found.problems == ["no result for b.py: FAILURE: OSError()", "no result for c.py: never finished"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (b"class A:\n    async def f(self): ...\n    def g(self): ...\n", (3, 2, 1, True)),
        (b"print 'this is Python 2'\n\n", (2, 0, 0, False)),
        (b"a = 1\n\0", (2, 0, 0, False)),
        (b"# coding: no-such-codec\n", (1, 0, 0, False)),
        (b"\xff\xfe\n", (1, 0, 0, False)),
        (b"x = " + b"(" * 5000 + b")" * 5000, (1, 0, 0, False)),
        (b'x = "\\d"\n', (1, 0, 0, True)),
        (b"", (0, 0, 0, True)),
    ],
    ids=[
        "Python",
        "Python 2",
        "a null byte",
        "an unknown codec",
        "no UTF-8",
        "nested too deep",
        "warned about",
        "empty",
    ],
)
def test_a_source_that_does_not_parse_has_its_lines_counted(source, expected):
    assert tuple(count(source).values()) == expected


def test_tests_and_what_was_installed_are_left_out(tmp_path):
    for name in ("a.py", "json/b.py", "json/data.txt", "json/test/c.py", "test/d.py", "site-packages/x/e.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")

    files, left_out = source_files(tmp_path)

    assert [file.package for file in files] == ["(top level)", "json"]
    assert left_out == 2


def test_batches_lose_no_file_and_are_the_same_each_time():
    files = [SourceFile(f"p{n % 10}", f"{n}.py") for n in range(100)]

    assert sorted(batches(files, None)) == sorted(files)
    assert batches(files, None) == batches(files, None)
    assert len(set(batches(files, 7))) == 7
