"""What the documentation shows is run, and what it lists is compared with the code."""

from __future__ import annotations

import ast
import inspect
import os
import pydoc
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any, get_args

import pytest

import cachify_tasks
import cachify_tasks.celery
from cachify_tasks import cachepool, pools, testing
from cachify_tasks.settings import UNSET, Settings
from cachify_tasks.testing import server
from tests.support.pages import ROOT, blocks, pages, programs, write_files
from tests.support.waiting import PATIENCE_S, wait_until

PAGES = {str(page.relative_to(ROOT)): page for page in pages()}
RUNNABLE = [name for name, page in PAGES.items() if programs(page)]
PUBLIC = [
    "pooling", "strategies", "instance", "caching", "settings", "errors",
    "_runtime.slot", "celery.app", "celery.inspect_pools",
    "testing.clock", "testing.recording",
    "testing.checker", "testing.server", "cachepool.threads", "cachepool.wrappers", "cachepool.coroutines",
    "pools.connection.pool", "pools.connection.lending",
    "pools.advanced.pool", "pools.advanced.maps",
]  # fmt: skip
DOCTESTS = """
import doctest, importlib, sys
results = [doctest.testmod(importlib.import_module(f"cachify_tasks.{name}")) for name in sys.argv[1:]]
print(sum(r.attempted for r in results))
sys.exit(any(r.failed for r in results))
"""


def run(*arguments: str, folder: Path | None = None, timeout: float = 200) -> str:
    """Run Python in a process of its own: what pages and doctests make global stays there."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("CACHIFY", "CELERY", "DJANGO"))}
    path = [str(ROOT), env.get("PYTHONPATH", "")]
    path.reverse()  # `make test` puts the built wheel first
    if folder:
        path.append(str(folder))
    env["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", RUNNABLE)
def test_python_on_a_page_runs(name, tmp_path, redis_url, broker_url):
    page = PAGES[name]
    write_files(page, tmp_path, redis_url, broker_url)
    for program in programs(page):
        where = (str(page), str(program[0].line), str(tmp_path))
        run(str(ROOT / "tests/support/pages.py"), *where, redis_url, broker_url, folder=tmp_path)


@pytest.mark.usefixtures("worker_processes")
def test_the_readme_s_first_example_runs_in_a_worker(tmp_path, private_server):
    server = private_server()
    write_files(PAGES["README.md"], tmp_path, server.url, server.url)
    log = (tmp_path / "log").open("w+")
    worker = subprocess.Popen(
        [
            sys.executable, "-m", "celery", "-A", "shop", "worker", "-c", "4", "--without-mingle", "--without-gossip",
            "-l", "INFO",
        ],
        cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip

    try:
        wait_until(lambda: " ready." in (tmp_path / "log").read_text("utf-8"), PATIENCE_S)
        found = run("-c", SHOP, folder=tmp_path)
    finally:
        worker.terminate()
        try:
            worker.wait(PATIENCE_S)
        finally:
            worker.kill()
        log.seek(0)
        print(log.read())  # noqa: T201  # shown when the test fails
        log.close()

    assert "2 of 2" in found


SHOP = """
import time
from shop import app, sync_orders
until = time.monotonic() + 60
results = [sync_orders.delay("acme") for _ in range(3)]
pools = {}
while "tenant-acme" not in pools or pools["tenant-acme"]["held"] < 2:
    assert time.monotonic() < until, pools
    (pools,) = app.control.inspect(timeout=60, limit=1)._request("pools").values()
print(pools["tenant-acme"]["held"], "of", pools["tenant-acme"]["limit"])
assert [result.get(timeout=60) for result in results] == ["acme is in sync"] * 3
"""


def test_examples_in_docstrings_run():
    assert int(run("-c", DOCTESTS, *PUBLIC).splitlines()[-1]) > 30


def test_python_is_marked_so_that_it_is_run():
    unsaid = [
        f"{name}:{block.line}"
        for name, page in PAGES.items()
        for block in blocks(page)
        if block.language in {"py", "python3", "pycon"}
    ]

    assert not unsaid, "write ```python, and a comment <!-- no-run: reason --> before it where it cannot run"


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built documentation; a warning of mkdocs fails the build."""
    folder = tmp_path_factory.mktemp("docs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


MODULES = [cachify_tasks, cachify_tasks.celery, cachepool, pools, testing, server]
# The methods and properties of these have to be there, too.
CLASSES = [
    "cachify_tasks.AcquiredSlot", "cachify_tasks.Cachify", "cachify_tasks.cachepool.CachePool",
    "cachify_tasks.pooling.Pool", "cachify_tasks.pools.AdvancedPool", "cachify_tasks.pools.ConnectionPool",
    "cachify_tasks.testing.Clock", "cachify_tasks.testing.server.EmbeddedServer",
]  # fmt: skip


def methods_and_properties(owner: Any) -> Iterator[str]:
    for name in dir(owner):
        if not name.startswith("_") and isinstance(inspect.getattr_static(owner, name), FunctionType | property):
            yield name


def test_every_public_name_is_on_a_page_of_the_built_reference(built):
    pages = (page.read_text("utf-8") for page in (built / "reference").glob("*.html"))
    shown = {anchor for page in pages for anchor in re.findall(r'id="([\w.]+)"', page)}

    names = {f"{module.__name__}.{name}" for module in MODULES for name in module.__all__}
    members = {f"{name}.{member}" for name in CLASSES for member in methods_and_properties(pydoc.locate(name))}

    assert len(names) > 60
    assert len(members) > 60
    assert not (names | members) - shown


def test_examples_of_docstrings_are_shown_as_code(built):
    page = (built / "reference/api.html").read_text("utf-8")

    assert "Example:" not in page
    assert page.count("&gt;&gt;&gt;") > 30


def test_built_pages_load_nothing_from_elsewhere_and_lead_to_files(built):
    for page in built.rglob("*.html"):
        text = page.read_text("utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="([^"]+)"', text)
        loaded += re.findall(r'<link (?![^>]*rel="canonical")[^>]*href="([^"]+)"', text)
        assert not [url for url in loaded if re.match(r"(https?:)?//", url)], page

        if page.name == "404.html":  # its links are those of a server's root
            continue
        for target in [*loaded, *re.findall(r'<a [^>]*href="([^":#]+)(?:#[^"]*)?"', text)]:
            assert (page.parent / target.partition("?")[0]).is_file(), f"{page} leads to {target}"


def test_lines_of_code_fit_a_page():
    too_long = [
        f"{name}:{block.line + number}"
        for name, page in PAGES.items()
        for block in blocks(page)
        for number, line in enumerate(block.code.splitlines())
        if len(line) > 88
    ]

    assert not too_long


def test_the_how_to_names_every_invariant():
    page = PAGES["docs/how-to/testing.md"].read_text("utf-8")

    assert set(get_args(testing.Kind)) <= set(re.findall(r"`([a-z-]+)`", page))


def test_the_table_of_settings_has_names_and_defaults():
    defaults = {field: getattr(Settings(), field) for field in Settings.names()}
    page = PAGES["docs/reference/settings.md"].read_text("utf-8")
    given = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", page, re.MULTILINE))

    for field, default in defaults.items():
        assert field in given, f"{field} is missing"
        if default not in (None, UNSET):
            shown = f"{default:g}" if isinstance(default, float) else str(default)
            assert shown in given[field], field


def test_links_between_pages_lead_somewhere():
    for name, page in PAGES.items():
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{name} links to {target}"


def test_each_promise_names_tests_that_exist():
    page = PAGES["docs/explanation/promises.md"].read_text("utf-8")
    promised = re.findall(r"^\| (?!promised|---).+ \| (.+) \|$", page, re.MULTILINE)
    assert len(promised) > 30

    for cell in promised:
        named = re.fullmatch(r"`(tests/\w[\w/]*\.py)::(test_\w+)`", cell)
        assert named, f"{cell} is no test"
        file, test = ROOT / named[1], named[2]
        assert re.search(rf"^(async )?def {test}\(", file.read_text("utf-8"), re.MULTILINE), cell


def told_in_logs() -> set[str]:
    """The longest piece without a value of each line that the package logs."""
    calls = [
        node
        for file in (ROOT / "cachify_tasks").rglob("*.py")
        if not {"demo", "testing"} & set(file.parts)
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    texts = [
        [part.value for part in ast.walk(argument) if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        for call in calls
        if call.func.attr in {"info", "warning", "error", "exception", "once", "throttled"}  # type: ignore[attr-defined]
        for argument in call.args[: 2 if call.func.attr in {"once", "throttled"} else 1]  # type: ignore[attr-defined]
        if isinstance(argument, ast.Constant | ast.JoinedStr)
    ]
    texts += [
        [
            part.value
            for part in ast.walk(keyword.value)
            if isinstance(part, ast.Constant) and isinstance(part.value, str)
        ]
        for file in (ROOT / "cachify_tasks").rglob("*.py")
        for keyword in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(keyword, ast.keyword) and keyword.arg == "doing"  # of `StoreUnreachable`
    ]
    pieces = {max(re.split(r"%\w|[][():;]", max(text, key=len)), key=len).strip() for text in texts if text}
    return {piece for piece in pieces if " " in piece}


def test_the_how_to_has_every_line_of_the_log():
    page = PAGES["docs/how-to/observe.md"].read_text("utf-8")
    told = told_in_logs()
    assert len(told) > 25

    assert not {piece for piece in told if piece not in page}
