"""The functions of this process that are in a pool: who may have given a limit."""

from __future__ import annotations

from typing import Final
from weakref import WeakValueDictionary

from .._core.policy import Policy

SHOWN: Final = 3  # names in one line
_known: Final[WeakValueDictionary[int, Policy]] = WeakValueDictionary()  # by identity


def remember_policy(policy: Policy) -> None:
    """A function has come into a pool. It is forgotten when the function is gone."""
    _known[id(policy)] = policy


def limit_givers(pool: str, limit: int, label: str = "") -> str:
    """The functions that may give this limit to the pool of this name, for a line in the log; empty: none is known.

    It looks at every function in a pool: only for what is rarely said.

    Args:
        label: only functions of this name; empty: of any.
    """
    policies = [policy for ref in _known.valuerefs() if (policy := ref()) is not None]
    found = sorted(
        {
            f"{policy.function.__module__}.{policy.name}"
            for policy in policies
            if policy.max_size == limit and label in ("", policy.name) and policy.key.may_make(pool)
        }
    )
    more = len(found) - SHOWN
    return ", ".join(found[:SHOWN]) + (f" and {more} more" if more > 0 else "")
