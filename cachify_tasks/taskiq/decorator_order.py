"""`@pooled` above `@broker.task`: the task itself takes in the policy, and direct calls of it are gated too."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from .._core.policy import policies_of, why_not_two
from ..errors import CachifyInitError


def adopt(task: Any, decorate: Callable[[object], object]) -> object:
    """Put a policy on a task; return the task.

    Args:
        decorate: makes a gated function of a function.

    Raises:
        CachifyInitError: the task is under `pooled` already.
    """
    function = task.original_func
    gated: Any = decorate(function)
    policies = policies_of(gated)
    if len(policies) > 1:
        raise CachifyInitError(why_not_two(task.task_name, policies))
    task.original_func = gated
    # Where a process pool imports it by its name: see `AsyncTaskiqDecoratedTask.__init__`.
    setattr(sys.modules[function.__module__], function.__name__, gated)
    return task
