"""`celery -A app inspect pools`: who holds what, and how many wait."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Final, Protocol

from celery import Celery
from celery.worker.control import inspect_command

from .._core.commands import Inspect
from .._core.key_commands import Pools
from .._core.replies import PoolView
from ..errors import CachifyError, CachifyStoreError
from .app import runtime_of

AT_MOST: Final = 200  # pools: the worker's loop stands still while it answers, and so does every other worker's


class PanelState(Protocol):
    """What Celery hands to a remote command."""

    app: Celery


@inspect_command(name="pools", args=[("match", str)], signature="[match]")
def pools(state: PanelState, match: str = "*") -> dict[str, object]:
    """Pools that have holders or waiting tasks: limit, held, how many wait, who holds. Of many the first 200 by name.

    Args:
        match: only pools whose name matches this pattern, such as "tenant-a*".
    """
    store = runtime_of(state.app).store
    try:
        names = [name for name in store.execute(Pools()) if fnmatchcase(name, match)]
        shown = [Inspect(name) for name in names[:AT_MOST]]
        views = store.execute_many(shown) if shown else []
        for view in views:
            if isinstance(view, CachifyStoreError):
                raise view
    except CachifyError as error:
        return {"error": str(error)}
    answer: dict[str, object] = {
        view.name: _shown(view) for view in views if isinstance(view, PoolView) and _used(view)
    }
    if len(names) > AT_MOST:
        answer["..."] = (
            f"and {len(names) - AT_MOST} more pools: name those you look for, as in: inspect pools 'tenant-a*'"
        )
    return answer


def _used(view: PoolView) -> bool:
    return bool(view.holders or view.waiting)


def _shown(view: PoolView) -> dict[str, object]:
    return {
        "limit": view.limit,
        "held": len(view.holders),
        "waiting": view.waiting,
        "holders": [
            {
                "holder": holder.holder,
                "task": holder.label,
                "token": holder.token,
                "state": "reserved" if holder.reserved else "running",
                "since": round(holder.since, 3),
                "lease_expires_in": round(holder.expires_in, 3),
            }
            for holder in view.holders
        ],
    }
