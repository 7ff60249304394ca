"""The Celery app, and its one task: index a file, at most two at once per package."""

from __future__ import annotations

import ast
import io
import time
import tokenize
import warnings
from pathlib import Path
from typing import Any, Final

from celery import Celery
from celery.signals import task_retry

from .. import Reschedule, pooled
from ..celery import setup

LIMIT: Final = 2
RESCHEDULED: Final = "demo:rescheduled"  # HASH in the results' server: task id -> how often it was put off

app = Celery("cachify_tasks.demo.tasks")
setup(app)


@app.task(bind=True)
@pooled(key="package-{package}", max_size=LIMIT, on_full=Reschedule(delay=0.05, factor=1.5, max_delay=0.5))
def index(self: Any, package: str, path: str) -> dict[str, Any]:
    """Count a file's lines, functions and classes; say when that was, by a clock that all processes share."""
    started = time.monotonic_ns()
    counted = count(Path(path).read_bytes())
    return {
        "package": package,
        "path": path,
        "rescheduled": int(_results().hget(RESCHEDULED, self.request.id) or 0),
        **counted,
        "started": started,
        "ended": time.monotonic_ns(),
    }


def count(source: bytes) -> dict[str, Any]:
    """Lines, functions and classes; of a source that is no valid Python, lines only."""
    functions = classes = 0
    try:
        tree = _parsed(source)
    except (SyntaxError, ValueError, RecursionError):
        tree = None
    for node in ast.walk(tree) if tree else ():
        functions += isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        classes += isinstance(node, ast.ClassDef)
    return {"lines": len(source.splitlines()), "functions": functions, "classes": classes, "parsed": tree is not None}


@task_retry.connect(sender=index)
def count_retry(request: Any, **_: Any) -> None:
    """In the worker's main process, each time that it puts a task off."""
    _results().hincrby(RESCHEDULED, request.id, 1)


def _results() -> Any:
    """The client of the server that has the results."""
    backend: Any = app.backend
    return backend.client


def _parsed(source: bytes) -> ast.AST:
    tokenize.detect_encoding(io.BytesIO(source).readline)  # a SyntaxError, where `parse` may raise others
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of invalid escapes in sources that are not ours
        return ast.parse(source)
