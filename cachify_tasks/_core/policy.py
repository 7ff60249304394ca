"""What one decorated function brings with it: its limit, its key and its strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..settings import UNSET, Unset
from .decisions import Decision, FullPool, Recall, Skip, Strategy, Waiting, waiting_of
from .key_template import KeyTemplate, signature_of

if TYPE_CHECKING:
    from .._runtime.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Policy:
    """The limit on a function: what `pooled` was given, and the function.

    Attributes:
        on_full: None: the call is not made, and returns None. UNSET: the default of tasks; for a direct call, None.
        slot_exp_ms: the hard limit of its slots; None: no hard limit; UNSET: the default.
        runtime: the one it is bound to; None: the global one at the time of the call.
        name: the function's qualified name.
    """

    function: Callable[..., object]
    key: KeyTemplate
    max_size: int
    on_full: Strategy | Unset | None = UNSET
    slot_exp_ms: int | Unset | None = UNSET
    runtime: Runtime | None = None
    name: str = ""
    _result_keys: dict[str, KeyTemplate] = field(default_factory=dict)

    def waits(self, default: Strategy | Unset | None = UNSET) -> Waiting | None:
        """How its calls wait in the pool's queue; None: they do not."""
        return waiting_of(self.strategy(default))

    def decide(self, full: FullPool, default: Strategy | Unset | None) -> Decision:
        """What to do with a call that found the pool full; `default` stands for an on_full that was not given."""
        strategy = self.strategy(default)
        return Skip(None) if strategy is None else strategy.decide(full)

    def keeps(self, default: Strategy | Unset | None = UNSET) -> Recall | None:
        """How good results are kept for later calls; None: they are not."""
        strategy = self.strategy(default)
        return None if strategy is None else strategy.keeps()

    def strategy(self, default: Strategy | Unset | None) -> Strategy | None:
        """The one that counts; None: the call is not made, and returns None."""
        chosen = default if self.on_full is UNSET else self.on_full
        return None if isinstance(chosen, Unset) else chosen

    def result_template(self, key: str) -> KeyTemplate:
        """The template that names kept results, parsed once.

        Raises:
            TypeError, ValueError: it is no template for this function.
        """
        template = self._result_keys.get(key)
        if template is None:
            template = self._result_keys[key] = KeyTemplate(key, signature_of(self.function))
        return template


def policy_of(function: object) -> Policy | None:
    """The policy of what `pooled` made, if it is one; also through a bound method or functools.wraps."""
    policy = getattr(function, "__cachify__", None)
    return policy if isinstance(policy, Policy) else None


def policies_of(function: object) -> list[Policy]:
    """Of a function and of those that it wraps, the outermost first."""
    found: list[Policy] = []
    while function is not None:
        policy = policy_of(function)
        if policy is not None and all(policy is not other for other in found):
            found.append(policy)
        function = getattr(function, "__wrapped__", None)
    return found


def why_not_two(name: str, policies: Iterable[Policy]) -> str:
    """Why a task cannot be under `pooled` twice: a worker asks for one slot, and the other limit would be ignored."""
    keys = " and ".join(repr(policy.key.text) for policy in policies)
    return (
        f"the task {name} is under `pooled` twice, with the keys {keys}: its worker could ask for one slot alone. Give "
        "it one of them, and enter the other pool inside the task: with pool(key, max_size=...): ..."
    )
