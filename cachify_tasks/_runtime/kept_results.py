"""Good results that are kept for later calls (`CachedFallback`): how they are named, stored and read.

Results and arguments are pickled: whoever can write to the store can run code where they are read.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._core.decisions import FullPool, Recall
from .._core.flows import Flow
from .._core.key_commands import Get, Put
from .._core.key_template import signature_of
from .._core.policy import Policy
from ..errors import CachifyStoreError
from ..settings import UNSET
from .events import ResultNotKept, StoreUnreachable

if TYPE_CHECKING:
    from .runtime import Runtime


@dataclass(frozen=True, slots=True)
class KeptResult:
    """Where the result of one call is kept, and for how long."""

    name: str
    ttl_ms: int | None


def kept_result(policy: Policy, recall: Recall, args: tuple[object, ...], kwargs: Mapping[str, object]) -> KeptResult:
    """Where the result of this call is to be kept. It is found before the run, which no error may follow.

    Raises:
        TypeError: the arguments do not fit, or cannot be pickled; the message says how to name results by a key.
    """
    return KeptResult(_name(policy, recall, args, kwargs), recall.ttl_ms)


def _name(policy: Policy, recall: Recall, args: tuple[object, ...], kwargs: Mapping[str, object]) -> str:
    owner = f"{policy.function.__module__}.{policy.name}"
    if recall.key is not None:
        return f"fallback:{owner}:{policy.result_template(recall.key).resolve(args, kwargs)}"
    bound = signature_of(policy.function).bind(*args, **kwargs)
    bound.apply_defaults()
    try:
        fingerprint = pickle.dumps(sorted(bound.arguments.items()), protocol=4)
    except Exception as error:  # noqa: BLE001  # whatever an argument raises when it is pickled
        raise TypeError(
            f"CachedFallback cannot tell calls of {owner} apart, for their arguments cannot be pickled ({error}); "
            "give it a key, such as CachedFallback(key='{name_of_an_argument}')"
        ) from None
    return f"fallback:{owner}:{hashlib.sha256(fingerprint).hexdigest()}"


def remember(runtime: Runtime, kept: KeptResult, result: object) -> Flow[None]:
    """Keep a result. The run has succeeded: nothing that fails here is an error of the call."""
    try:
        value = pickle.dumps(result)
    except Exception as error:  # noqa: BLE001  # whatever a result raises when it is pickled
        runtime.emit(ResultNotKept(name=kept.name, error=error))
        return
    try:
        yield Put(kept.name, value, kept.ttl_ms)
    except CachifyStoreError as error:
        runtime.emit(StoreUnreachable(doing="keeping a last good result", error=error))


def recall_result(
    policy: Policy, recall: Recall, args: tuple[object, ...], kwargs: Mapping[str, object], full: FullPool
) -> Flow[object]:
    """The last good result of this call, or the default.

    Raises:
        CachifyPoolFullError: there is neither.
    """
    value = yield Get(_name(policy, recall, args, kwargs))
    if value is not None:
        assert isinstance(value, bytes)
        result: object = pickle.loads(value)
        return result
    if recall.default is UNSET:
        raise full.as_error("there is no earlier result of this call, and no default")
    return recall.default
