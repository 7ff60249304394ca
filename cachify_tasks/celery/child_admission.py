"""Where the task runs: what its worker's main process has decided is handed to the gated function, once."""

from __future__ import annotations

from typing import Any, Final

from celery._state import get_current_task

from .._core.admission import Admission
from .._core.decisions import FullPool
from .._core.policy import Policy
from .._runtime.slot import Slot
from .._worker.requests import TOMB_MS, decide, default_on_full
from ..errors import CachifyError, CachifyStoreError
from .app import engine_of, plain_engine, state_of, task_policy

KEY: Final = "cachify_admission"  # of the request that is sent to the child
USED: Final = "cachify_used"


def probe(policy: Policy) -> Admission | None:
    """What the worker decided about the call of this policy's function that is being made; None: it is another call."""
    task: Any = get_current_task()
    if task is None or state_of(task.app) is None or task_policy(task) is not policy:
        return None
    request = task.request_stack.top
    if request is None:
        return None
    if USED in vars(request):
        return Admission(plain_engine(task.app, policy), inline=True)
    carried = vars(request).pop(KEY, None)
    if request.headers:  # else a retry would carry it along
        request.headers.pop(KEY, None)
    if request.is_eager:
        setattr(request, USED, True)
        engine = engine_of(task.app)
        return Admission(engine, default=default_on_full(engine), inline=True)
    if carried is None:
        return Admission(plain_engine(task.app, policy), inline=True)  # a plain call of the task
    setattr(request, USED, True)
    return _admission(task, policy, carried)


def _admission(task: Any, policy: Policy, carried: dict[str, Any]) -> Admission:
    engine = engine_of(task.app)
    match carried:
        case {"slot": [key, holder, token, rid]}:
            slot = Slot(engine.store, key, holder, token, rid, engine.lease_ms, engine.start_ms, TOMB_MS)
            return Admission(engine, slot, default=default_on_full(engine))
        case {"full": [key, limit, held, attempt]}:
            full = FullPool(key, limit, held, attempt)
            return Admission(engine, full=full, decision=decide(engine, policy, full))
        case {"failure": [kind, message]}:
            raise CachifyStoreError(message) if kind == "store" else ValueError(message)
        case {"open": _}:
            return Admission(engine)
    raise CachifyError(f"an admission of another version of cachify_tasks: {sorted(carried)}")
