"""Loaded by a worker (`-I trace`): records which files of the package the next delivery goes through.

It is copied beside the worker's app. The trace begins when Celery makes the request of a message, and ends when the
delivery is dispatched to a process. Only the main thread is recorded; what has no source line there, such as the
generated `__init__` of a dataclass, has no file.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import cachify_tasks
from cachify_tasks.celery.prefork_gate import PreforkGate
from cachify_tasks.celery.request import Gated

PACKAGE = str(Path(cachify_tasks.__file__).parent) + os.sep
FOLDER = Path(os.environ["SHOP_RUNS"]).parent
_files: dict[str, set[str]] = {}
_make: Any = Gated.__init__
_dispatch: Any = PreforkGate._dispatch


def _record(frame: FrameType, event: str, _: object) -> None:
    code = frame.f_code
    if event == "call" and code.co_filename.startswith(PACKAGE):
        _files.setdefault(code.co_filename.removeprefix(PACKAGE), set()).add(code.co_name)


def _recorded_make(self: Any, *args: Any, **kwargs: Any) -> None:
    _files.clear()
    sys.setprofile(_record)
    _make(self, *args, **kwargs)
    _files.setdefault("celery/request.py", set()).add("__init__")


def _recorded_dispatch(self: Any, delivery: Any, dispatch: Any) -> None:
    sys.setprofile(None)
    found = {file: sorted(names) for file, names in sorted(_files.items())}
    (FOLDER / f"trace-{delivery.attempt.task_id}.json").write_text(json.dumps(found))
    _dispatch(self, delivery, dispatch)


Gated.__init__ = _recorded_make  # type: ignore[method-assign]
PreforkGate._dispatch = _recorded_dispatch  # type: ignore[method-assign]
