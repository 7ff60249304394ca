"""The limits on the tasks of one worker, found once each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from .._core.policy import Policy, policies_of, policy_of, why_not_two
from .._runtime.runtime import Runtime
from ..errors import CachifyInitError
from .greeting import check_default, check_limit, greet
from .limits import TaskLimit


@dataclass(frozen=True, slots=True)
class KnownTask:
    """What a worker needs to know of a task. Both are None where it has no pool."""

    policy: Policy | None = None
    limit: TaskLimit | None = None


NO_POOL: Final = KnownTask()


class KnownTasks:
    """Of a framework whose tasks are functions with names. It belongs to one event loop.

    Args:
        runtime: of the workers.
        find: the function of the task of that name; None: there is none.
    """

    def __init__(self, runtime: Runtime, find: Callable[[str], Callable[..., object] | None]) -> None:
        self._runtime = runtime
        self._find = find
        self._known: dict[str, tuple[object, KnownTask]] = {}

    def get(self, name: str) -> KnownTask:
        """By the task's name.

        Raises:
            CachifyInitError: its limit is one that a worker cannot hold.
        """
        function = self._find(name)
        known = self._known.get(name)
        if known is None or known[0] is not function:  # another function has got the name
            known = self._known[name] = function, self._look_at(name, function)
        return known[1]

    def check(self, names: Iterable[str], *, setting: str) -> None:
        """What a worker looks at when it starts: its store, and the limits on these tasks. setting: see `greet`.

        Raises:
            CachifyInitError: the worker cannot hold the limits.
        """
        check_default(self._runtime)
        greet(self._runtime, setting=setting)
        for name in names:
            self.get(name)

    def _look_at(self, name: str, function: object) -> KnownTask:
        policy = policy_of(function)
        if policy is None:
            return NO_POOL
        policies = policies_of(function)
        if len(policies) > 1:
            raise CachifyInitError(why_not_two(name, policies))
        check_limit(name, policy, self._runtime)
        return KnownTask(policy, TaskLimit.of(policy, self._runtime))
