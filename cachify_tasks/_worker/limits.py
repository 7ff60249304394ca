"""The limit on a task, as a worker sees it: what `pooled` was given, with the defaults of tasks filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from .._core.decisions import Decision, FullPool, Parking, RaiseFull, Skip, Strategy, parking_of
from .._core.key_template import KeyTemplate
from .._core.policy import Policy
from .._runtime.runtime import Runtime
from ..settings import UNSET, Unset
from ..strategies import Drop, Park, Raise

DEFAULT_ON_FULL: Final = Park()


def default_on_full(runtime: Runtime) -> Strategy | None:
    """The strategy of tasks that name none."""
    default = runtime.settings.default_on_full
    return DEFAULT_ON_FULL if default is UNSET else default


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLimit:
    """Made once for each task of a worker.

    Attributes:
        strategy: for a full pool; None: the task is dropped, with the result None.
        parking: how its tasks wait in the pool's queue; None: they do not.
        slot_exp_ms: the hard limit of its slots; 0: no hard limit.
    """

    key: KeyTemplate
    max_size: int
    strategy: Strategy | None
    parking: Parking | None
    slot_exp_ms: int = 0

    @classmethod
    def of(cls, policy: Policy, runtime: Runtime) -> Self:
        """Of a policy, in workers that use this runtime."""
        strategy = policy.strategy(default_on_full(runtime))
        hard = runtime.slot_exp_ms if isinstance(policy.slot_exp_ms, Unset) else policy.slot_exp_ms
        return cls(
            key=policy.key, max_size=policy.max_size, strategy=strategy, parking=parking_of(strategy),
            slot_exp_ms=hard or 0,
        )  # fmt: skip

    @property
    def shown(self) -> str:
        """Who decides for a task that may not wait, as the user wrote it."""
        return repr(self.strategy if self.parking is None else self.parking.then)

    @property
    def refusal(self) -> RaiseFull | Skip | None:
        """What becomes of each task for which there is no place, if that is known before and needs no run of it.

        None: it depends on the call, its answer is a result, or there is always a place in the queue.
        """
        strategy, waits = self.strategy, self.parking is not None
        if self.parking is not None and self.parking.max_parked:
            strategy, waits = self.parking.then, False
        match strategy:
            case Raise() if not waits:
                return RaiseFull()
            case Drop(result) if not waits and result is UNSET:
                return Skip()
        return None

    def decide(self, full: FullPool) -> Decision:
        """What the strategy answers for a task that found its pool full, and its queue, if it waits in one."""
        if self.parking is not None:
            return self.parking.then.decide(full)
        return Skip(None) if self.strategy is None else self.strategy.decide(full)

    def is_overdue(self, waited_ms: int) -> bool:
        """Has a parked task waited longer than its strategy allows (`max_age`)?"""
        return self.parking is not None and 0 < self.parking.max_age_ms < waited_ms
