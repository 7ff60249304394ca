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
from celery.worker.request import Request

from .. import pooled
from ..celery import setup

LIMIT: Final = 2
# Events of the worker, and HASHes in the results' server: task id -> how often it had one.
NOTED: Final = {"cachify-parked": "demo:parked", "task-retried": "demo:rescheduled"}

app = Celery("cachify_tasks.demo.tasks")
setup(app)


class Noting(Request):
    """Notes, in the worker's main process, which tasks are parked or put off."""

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002  # so named by Celery
        if type in NOTED:
            _results().hincrby(NOTED[type], self.id, 1)
        super().send_event(type, **fields)


@app.task(bind=True, Request=Noting)
@pooled(key="package-{package}", max_size=LIMIT)
def index(self: Any, package: str, path: str) -> dict[str, Any]:
    """Count a file's lines, functions and classes; say when that was, by a clock that all processes share."""
    started = time.monotonic_ns()
    counted = count(Path(path).read_bytes())
    return {
        "package": package,
        "path": path,
        **{key.removeprefix("demo:"): int(_results().hget(key, self.request.id) or 0) for key in NOTED.values()},
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


def _results() -> Any:
    """The client of the server that has the results."""
    backend: Any = app.backend
    return backend.client


def _parsed(source: bytes) -> ast.AST:
    tokenize.detect_encoding(io.BytesIO(source).readline)  # a SyntaxError, where `parse` may raise others
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of invalid escapes in sources that are not ours
        return ast.parse(source)
