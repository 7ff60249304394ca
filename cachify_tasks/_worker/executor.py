"""Where an event loop runs synchronous tasks: their slots are held until the thread, or process, has ended them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from typing import TypeVar

from .admissions import carried, running

T = TypeVar("T")


class TrackingExecutor(Executor):
    """Hands work to an executor, and lets the delivery that it is of know."""

    def __init__(self, inner: Executor) -> None:
        self._inner = inner

    def submit(self, fn: Callable[..., T], /, *args: object, **kwargs: object) -> Future[T]:
        delivery = running()
        if delivery is not None and isinstance(self._inner, ProcessPoolExecutor):
            args = carried(args)
        work = self._inner.submit(fn, *args, **kwargs)
        if delivery is not None:
            delivery.work = work
        return work

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._inner.shutdown(wait, cancel_futures=cancel_futures)
