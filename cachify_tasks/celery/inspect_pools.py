"""`celery -A app inspect pools`: who holds what, and how many wait."""

from __future__ import annotations

from typing import Protocol

from celery import Celery
from celery.worker.control import inspect_command

from .._core.commands import Inspect, Pools
from ..errors import CachifyError
from .app import runtime_of


class PanelState(Protocol):
    """What Celery hands to a remote command."""

    app: Celery


@inspect_command(name="pools")
def pools(state: PanelState) -> dict[str, object]:
    """Every pool that has holders or waiting tasks: limit, held, how many wait, and who holds."""
    try:
        store = runtime_of(state.app).store
        views = [store.execute(Inspect(name)) for name in store.execute(Pools())]
    except CachifyError as error:
        return {"error": str(error)}
    return {
        view.name: {
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
        for view in views
        if view.holders or view.waiting
    }
