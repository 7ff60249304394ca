"""`@pooled` above `@broker.task`: the task itself takes in the policy, and direct calls of it are gated too."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from .._core.policy import Policy
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
    check_one_policy(task.task_name, gated)
    task.original_func = gated
    # Where a process pool imports it by its name: see `AsyncTaskiqDecoratedTask.__init__`.
    setattr(sys.modules[function.__module__], function.__name__, gated)
    return task


def policy_of(function: object) -> Policy | None:
    """The policy of what `pooled` made, if it is one."""
    policy = getattr(function, "__cachify__", None)
    return policy if isinstance(policy, Policy) else None


def check_one_policy(name: str, function: object) -> None:
    """Refuse a second `@pooled` on one task: a worker asks for one slot, and the other limit would be ignored.

    Raises:
        CachifyInitError: there are two.
    """
    found: list[Policy] = []
    while function is not None:
        policy = policy_of(function)
        if policy is not None and all(policy is not other for other in found):
            found.append(policy)
        function = getattr(function, "__wrapped__", None)
    if len(found) > 1:
        keys = " and ".join(repr(policy.key.text) for policy in found)
        raise CachifyInitError(
            f"the task {name} is under `pooled` twice, with the keys {keys}: its worker could ask for one slot alone. "
            "Give it one of them, and enter the other pool inside the task: async with pool(key, max_size=...): ..."
        )
