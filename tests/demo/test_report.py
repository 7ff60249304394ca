"""The demo's judgement, on made-up runs: it must be able to fail."""

import random
import xml.etree.ElementTree as ET

import pytest

from cachify_tasks.demo.files import SourceFile, batches, source_files
from cachify_tasks.demo.intervals import lanes, peak
from cachify_tasks.demo.picture import picture
from cachify_tasks.demo.report import Run, report
from cachify_tasks.demo.tasks import count

SVG = "{http://www.w3.org/2000/svg}"


def a_run(package="json", path="a.py", started=0, ended=10, **more):
    return Run(
        **{
            "package": package,
            "path": path,
            "sent": 0,
            "started": started,
            "ended": ended,
            "parked": 0,
            "rescheduled": 0,
            "lines": 1,
        }
        | {"functions": 0, "classes": 0, "parsed": True}
        | more
    )


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
        can_start_heirs = [chance.randrange(50) for _ in range(12)]
        intervals = [(start, start + chance.randrange(1, 15)) for start in can_start_heirs]

        counted = max(sum(start <= moment < end for start, end in intervals) for moment in range(70))

        assert peak(intervals) == counted


def test_there_are_as_many_lanes_as_the_peak_and_none_is_used_twice_at_once():
    chance = random.Random(2)
    intervals = [(start, start + chance.randrange(1, 30)) for start in (chance.randrange(200) for _ in range(60))]

    chosen = lanes(intervals)

    assert max(chosen) + 1 == peak(intervals)
    for lane in set(chosen):
        assert peak(one for one, its in zip(intervals, chosen, strict=True) if its == lane) == 1


def test_a_third_run_at_once_is_reported_and_drawn_above_the_limit():
    runs = [a_run(path=f"{n}.py", started=n, ended=n + 10) for n in range(3)]

    found = report([SourceFile("json", run.path) for run in runs], runs, {}, limit=2)

    assert found.problems == ["package-json: 3 ran at once, and the limit is 2"]
    drawn = picture(found, 6)
    assert drawn.count('class="over"') == 2  # the bar, and the legend
    assert ">ran over the limit<" in drawn


def test_runs_of_different_keys_may_overlap():
    runs = [a_run(package=f"package{n}", path=f"{n}.py") for n in range(5)]

    found = report([SourceFile(run.package, run.path) for run in runs], runs, {}, limit=1)

    assert found.problems == []
    assert found.peak == 5


def test_a_file_without_a_result_is_reported_with_the_reason():
    files = [SourceFile("json", name) for name in ("a.py", "b.py", "c.py")]

    found = report(files, [a_run(path="a.py")], {"b.py": "FAILURE: OSError()"}, limit=2)

    assert found.problems == ["no result for b.py: FAILURE: OSError()", "no result for c.py: never finished"]


def test_the_picture_is_well_formed_whatever_the_names_are():
    runs = [a_run(package="<a&b>", path='"x<y>.py', started=n * 20, ended=n * 20 + 10) for n in range(3)]

    root = ET.fromstring(picture(report([], runs, {}, limit=2), 6))

    assert "<a&b>" in [text.text for text in root.iter(f"{SVG}text")]


def test_a_picture_of_nothing_can_be_drawn():
    ET.fromstring(picture(report([], [], {}, limit=2), 6))


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
