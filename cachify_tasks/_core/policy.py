"""What one decorated function brings with it, and how its calls are named."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..settings import UNSET, Unset
from .decisions import Decision, FullPool, Parking, Recall, Skip, Strategy, Waiting, parking_of, waiting_of
from .key_template import KeyTemplate, signature_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The limit on a function: what `pooled` was given, and the function.

    Attributes:
        on_full: None: answer None; UNSET: as None for a plain call, the default of tasks for a task.
        slot_exp_ms: the hard limit of its slots; None: no hard limit; UNSET: the default.
        engine: what it was bound to; None: the global one, when it is called.
    """

    function: Callable[..., Any]
    key: KeyTemplate
    max_size: int
    on_full: Strategy | Unset | None = UNSET
    slot_exp_ms: int | Unset | None = UNSET
    runtime: Any = None
    name: str = ""
    recalls: dict[str, KeyTemplate] = field(default_factory=dict)

    def parks(self, default: Strategy | Unset | None) -> Parking | None:
        """How its tasks wait in the pool's queue; None: they do not."""
        return parking_of(default if self.on_full is UNSET else self.on_full)

    def waits(self, default: Strategy | Unset | None = UNSET) -> Waiting | None:
        """How its calls wait in the pool's queue; None: they do not."""
        return waiting_of(default if self.on_full is UNSET else self.on_full)

    def decide(self, full: FullPool, default: Strategy | Unset | None) -> Decision:
        """What to do with a call that found the pool full; `default` stands for an on_full that was not given."""
        chosen = default if self.on_full is UNSET else self.on_full
        if chosen is None or chosen is UNSET:
            return Skip(None)
        decision: Decision = chosen.decide(full)
        return decision

    def keeps(self, default: Strategy | Unset | None = UNSET) -> Recall | None:
        chosen = default if self.on_full is UNSET else self.on_full
        return None if chosen is None or chosen is UNSET else chosen.keeps()

    def memory_key(self, recall: Recall, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """The name of the last good result of this call.

        Raises:
            TypeError: the arguments do not fit, or cannot be pickled; the message tells how to name results by a key.
        """
        owner = f"{self.function.__module__}.{self.name}"
        if recall.key is not None:
            template = self.recalls.get(recall.key)
            if template is None:
                template = self.recalls[recall.key] = KeyTemplate(recall.key, signature_of(self.function))
            return f"fallback:{owner}:{template.resolve(args, kwargs)}"
        bound = signature_of(self.function).bind(*args, **kwargs)
        bound.apply_defaults()
        try:
            told = pickle.dumps(sorted(bound.arguments.items()), protocol=4)
        except Exception as error:  # noqa: BLE001  # whatever an argument raises when it is pickled
            raise TypeError(
                f"CachedFallback cannot tell calls of {owner} apart, for their arguments cannot be pickled ({error}); "
                "give it a key, such as CachedFallback(key='{name_of_an_argument}')"
            ) from None
        return f"fallback:{owner}:{hashlib.sha256(told).hexdigest()}"
