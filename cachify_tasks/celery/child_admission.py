"""Where the task runs: what its worker's main process has decided is handed to the gated function, once."""

from __future__ import annotations

from typing import Any, Final

from celery._state import get_current_task

from .._adapters import Admission
from .._core.commands import Acquire
from .._core.decisions import FullPool
from .._core.policy import Policy
from .._runtime.slot import Slot
from .._worker.held_slots import TOMB_MS
from .._worker.limits import TaskLimit, default_on_full
from ..errors import CachifyError, CachifyInitError, CachifyStoreError
from ..settings import Unset
from .app import runtime_for_direct_call, runtime_of, state_of, task_policy
from .request import ADMISSION

USED: Final = "cachify_used"


def probe(policy: Policy) -> Admission | None:
    """What the worker decided about the call of this policy's function that is being made; None: it is another call."""
    task: Any = get_current_task()
    request = None if task is None else task.request_stack.top
    if request is None or task_policy(task) is not policy:
        return None
    if state_of(task.app) is None:
        if ADMISSION in vars(request):
            raise CachifyInitError(
                f"a worker let {task.name}[{request.id}] run, and in this process setup() was not called for its app "
                f"{task.app.main!r}: call cachify_tasks.celery.setup(app) in the module that makes the app, so that "
                "each process that runs its tasks does"
            )
        return None
    if USED in vars(request):
        return Admission(runtime_for_direct_call(task.app, policy), inline=True)
    carried = vars(request).pop(ADMISSION, None)
    if request.headers:  # else a retry would carry it along
        request.headers.pop(ADMISSION, None)
    if request.is_eager:
        setattr(request, USED, True)
        runtime = runtime_of(task.app)
        return Admission(runtime, default=default_on_full(runtime), inline=True)
    if carried is None:
        return Admission(runtime_for_direct_call(task.app, policy), inline=True)  # a plain call of the task
    setattr(request, USED, True)
    return _admission(task, policy, carried)


def _admission(task: Any, policy: Policy, carried: dict[str, Any]) -> Admission:
    runtime = runtime_of(task.app)
    match carried:
        case {"slot": [key, holder, token, request_id]}:
            hard = runtime.slot_exp_ms if isinstance(policy.slot_exp_ms, Unset) else policy.slot_exp_ms
            granted = Acquire(
                pool=key, holder=holder, request_id=request_id, limit=policy.max_size, lease_ms=runtime.lease_ms,
                start_ms=runtime.start_ms, slot_exp_ms=hard or 0,
            )  # fmt: skip
            slot = Slot(runtime.store, granted, token, TOMB_MS)
            return Admission(runtime, slot, default=default_on_full(runtime))
        case {"full": [key, limit, held, attempt]}:
            full = FullPool(key, limit, held, attempt)
            return Admission(runtime, full=full, decision=TaskLimit.of(policy, runtime).decide(full))
        case {"failure": ["store", message]}:
            raise CachifyStoreError(message)
        case {"failure": [_, message]}:
            return Admission(runtime, key_error=ValueError(message))
        case {"open": _}:
            return Admission(runtime)
    raise CachifyError(f"an admission of another version of cachify_tasks: {sorted(carried)}")
