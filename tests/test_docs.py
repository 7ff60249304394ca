"""What the documentation shows is run, and what it lists is compared with the code."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

import cachify_tasks
import cachify_tasks.celery
from cachify_tasks import cachepool, pools, testing
from cachify_tasks.settings import UNSET, Settings
from tests.support.pages import ROOT, blocks, pages, write_files
from tests.support.waiting import PATIENCE_S, wait_until

PAGES = {str(page.relative_to(ROOT)): page for page in pages()}
RUNNABLE = [name for name, page in PAGES.items() if any(b.language == "python" for b in blocks(page))]
PUBLIC = [
    "pooling", "strategies", "instance", "caching", "settings", "errors",
    "_runtime.slot", "celery.app", "celery.inspect_pools",
    "testing.clock", "testing.recording",
    "testing.checker", "cachepool.threads", "cachepool.wrappers", "cachepool.coroutines",
    "pools.connection.pool", "pools.connection.quick",
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
    run(str(ROOT / "tests/support/pages.py"), str(PAGES[name]), str(tmp_path), redis_url, broker_url)


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


def shown(function: Any) -> str:
    """A signature without types."""
    signature = inspect.signature(function)
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values() if p.name != "self"]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))


CALLED = [
    "CachedFallback", "CachifyPoolFullError", "Callback", "Drop", "FullPool", "Park", "Raise", "Reschedule", "Wait",
    "cached", "current_slot", "init_cachify", "pool", "pooled",
]  # fmt: skip


@pytest.mark.parametrize("name", CALLED)
def test_the_reference_has_the_signature(name):
    page = PAGES["docs/reference/api.md"].read_text("utf-8")

    assert f"{name}{shown(getattr(cachify_tasks, name))}" in page


@pytest.mark.parametrize("name", ["CachePool", "CacheWrapper", "make_wrapper"])
def test_the_reference_has_the_signature_of_the_pool_of_objects(name):
    page = PAGES["docs/reference/cachepool.md"].read_text("utf-8")

    assert f"\n{name}{shown(getattr(cachepool, name))}\n" in page


def test_the_reference_has_every_public_name_of_the_pool_of_objects():
    page = PAGES["docs/reference/cachepool.md"].read_text("utf-8")
    public = {name for name in vars(cachepool.CachePool) if not name.startswith("_")} | {"stat", "queue"}

    assert {*cachepool.__all__, *public} <= set(re.findall(r"`(\w+)", page))


@pytest.mark.parametrize("name", ["assert_sound", "check", "memory"])
def test_the_reference_has_the_signature_of_the_test_kit(name):
    page = PAGES["docs/reference/api.md"].read_text("utf-8")

    assert f"\n{name}{shown(getattr(testing, name))}\n" in page


def test_the_reference_has_the_signature_and_every_name_of_the_connection_pool():
    page = PAGES["docs/reference/connectionpool.md"].read_text("utf-8")

    assert f"\nConnectionPool{shown(pools.ConnectionPool)}\n" in page
    public = {name for name in dir(pools.ConnectionPool) if not name.startswith("_")}
    assert public <= set(re.findall(r"\w+", page))
    errors = {name for name in pools.__all__ if name.startswith(("Pool", "NotLent"))}
    assert errors <= set(re.findall(r"\w+", page))


def test_the_how_to_names_every_invariant():
    page = PAGES["docs/how-to/testing.md"].read_text("utf-8")

    assert set(get_args(testing.Kind)) <= set(re.findall(r"`([a-z-]+)`", page))


def test_the_reference_has_every_public_name():
    page = PAGES["docs/reference/api.md"].read_text("utf-8") + PAGES["docs/reference/errors.md"].read_text("utf-8")
    named = set(re.findall(r"`(?:testing\.)?(\w+)", page))

    assert {*cachify_tasks.__all__, *testing.__all__} <= named
    assert f"setup{shown(cachify_tasks.celery.setup)}" in page


@pytest.mark.parametrize("name", ["README.md", "docs/reference/settings.md"])
def test_tables_of_settings_have_names_and_defaults(name):
    defaults = {field: getattr(Settings(), field) for field in Settings.names()}
    told = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", PAGES[name].read_text("utf-8"), re.MULTILINE))

    for field, default in defaults.items():
        assert field in told, f"{field} is missing"
        if default not in (None, UNSET):
            assert f"{default:g}" if isinstance(default, float) else default in told[field], field


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
