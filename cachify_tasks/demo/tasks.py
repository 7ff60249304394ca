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
PARKED: Final = "demo:parked"  # a SET in the results' server: ids of tasks that were parked

app = Celery("cachify_tasks.demo.tasks")
setup(app)


class NotingRequest(Request):
    """Notes, in the worker's main process, which tasks are parked."""

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002  # so named by Celery
        if type == "cachify-parked":
            _results().sadd(PARKED, self.id)
        super().send_event(type, **fields)


@app.task(bind=True, Request=NotingRequest)
@pooled(key="package-{package}", max_size=LIMIT)
def index(self: Any, package: str, path: str) -> dict[str, Any]:
    """Count a file's lines, functions and classes. Times are of a clock that all processes share."""
    started = time.monotonic_ns()
    counted = count(Path(path).read_bytes())
    parked = bool(_results().sismember(PARKED, self.request.id))
    ended = time.monotonic_ns()
    return {"package": package, "path": path, "parked": parked, **counted, "started": started, "ended": ended}


def count(source: bytes) -> dict[str, Any]:
    """Lines, functions and classes; only lines where the source is not valid Python."""
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
        warnings.simplefilter("ignore")  # about invalid escapes in the indexed files
        return ast.parse(source)
