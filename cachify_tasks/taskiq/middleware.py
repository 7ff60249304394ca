"""`CachifyMiddleware`: what a broker is given, so that its tasks under `@pooled` run inside slots."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4
from weakref import WeakSet

from taskiq import TaskiqMiddleware
from taskiq.abc.broker import AsyncBroker
from taskiq.brokers.inmemory_broker import InMemoryBroker
from taskiq.message import TaskiqMessage

from .._adapters import App, register_apps, register_probe
from .._core.policy import policy_of
from .._redis.clients import check_url, client_of_pool
from .._runtime.instances import join_global
from .._runtime.runtime import Runtime
from .._worker.admissions import probe
from .._worker.attempt import Header
from .._worker.known_tasks import KnownTasks
from ..errors import CachifyInitError
from ..instance import make_runtime
from ..settings import Settings
from ..strategies import as_strategy
from .delivery import LABEL, attempt_of
from .gate import Gate

if TYPE_CHECKING:
    from taskiq.receiver import Receiver

ENVIRONMENT: Final = "CACHIFY_URL"
_middlewares: Final[WeakSet[CachifyMiddleware]] = WeakSet()


class CachifyMiddleware(TaskiqMiddleware):
    """Run the tasks of a broker that are under `@pooled` inside slots.

    One that finds its pool full and names no strategy is parked: see `Park`. It connects to nothing before the broker
    is started. A program that does not call `init_cachify` uses its store for plain calls too.

    Args:
        **settings: `url`, `prefix`, `lease_ttl`, `start_timeout`, `on_store_error`, `default_on_full` and the others of
            `Settings`. `url` falls back to the environment variable CACHIFY_URL, then to the broker's, when that is one
            plain Redis.

    Raises:
        CachifySettingError: a setting is unknown or has a value it cannot take.
        CachifyInitError: the broker has such a middleware already, or this one has another broker.

    Example:
        >>> from taskiq import InMemoryBroker
        >>> from cachify_tasks.taskiq import CachifyMiddleware
        >>> broker = InMemoryBroker().with_middlewares(CachifyMiddleware(url="memory://"))
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        given = Settings.checked(settings)
        if given.url is not None:
            check_url(given.url)
        as_strategy(given.default_on_full, called="default_on_full")
        self._given = settings
        self._runtime: Runtime | None = None
        self._gates: dict[int, Gate] = {}  # by the identity of their receivers, which live as long as their brokers

    def set_broker(self, broker: AsyncBroker) -> None:
        if self.broker not in (None, broker):
            raise CachifyInitError(f"this CachifyMiddleware serves {self.broker!r} already: make one for each broker")
        if any(isinstance(other, CachifyMiddleware) for other in broker.middlewares):
            raise CachifyInitError(f"{broker!r} has a CachifyMiddleware already: two would ask for two slots each time")
        super().set_broker(broker)
        register_probe(probe)
        register_apps(_apps)
        _middlewares.add(self)

    @property
    def runtime(self) -> Runtime:
        """Made when it is first needed.

        Raises:
            CachifyInitError: no URL was given, and the broker is not one plain Redis.
        """
        if self._runtime is None:
            url = self._given.get("url") or os.environ.get(ENVIRONMENT)
            client = None if url else client_of_pool(getattr(self.broker, "connection_pool", None))
            if not url and client is None:
                raise CachifyInitError(
                    f"CachifyMiddleware has no url, and its broker ({type(self.broker).__name__}) is not on one plain "
                    f"Redis that could serve: give CachifyMiddleware(url=...), or set the variable {ENVIRONMENT}"
                )
            self._runtime = make_runtime(Settings.checked({**self._given, "url": url}), async_client=client)
        return self._runtime

    @property
    def app(self) -> App:
        """As the registry of adapters knows it."""
        return App(f"the broker {type(self.broker).__name__} of CachifyMiddleware", lambda: self.runtime)

    async def startup(self) -> None:
        if isinstance(self.broker, InMemoryBroker):
            self.gate(self.broker.receiver)

    async def shutdown(self) -> None:
        gates, self._gates = list(self._gates.values()), {}
        for gate in gates:
            await gate.close(gate.receiver.wait_tasks_timeout)
        if self._runtime is not None:
            await self._runtime.store.aclose()
            self._runtime.close()

    def gate(self, of: Receiver) -> Gate:
        """The gate of a receiver in the running event loop; made when it is first asked for."""
        known = self._gates.get(id(of))
        if known is None or known.closed or known.loop is not asyncio.get_running_loop():
            tasks = KnownTasks(join_global(self.app), self._function)
            tasks.check(self.broker.get_all_tasks(), setting="url")
            known = self._gates[id(of)] = Gate(self.runtime, of, tasks)
        return known

    def _function(self, name: str) -> Callable[..., object] | None:
        task = self.broker.find_task(name)
        return None if task is None else task.original_func

    # Hooks of messages

    def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        """Mark it, so that two messages that a program sends under one id are told from copies of one."""
        if policy_of(self._function(message.task_name)) is not None:
            attempt, _ = attempt_of(message)
            message.labels[LABEL] = Header(sending=uuid4().hex[:8]).encode(attempt)
        return message

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """The mark is not for the task's eyes, nor for the message of its retry."""
        message.labels.pop(LABEL, None)
        return message


def _apps() -> list[App]:
    """For direct calls in a program that has not called `init_cachify`."""
    return [middleware.app for middleware in list(_middlewares)]
