"""Taskiq's receivers ask a gate around their `callback`, if their broker has a `CachifyMiddleware`.

To import this changes `Receiver`, of which each worker has one, and each `InMemoryBroker`.
"""

from __future__ import annotations

import asyncio
import functools
import signal
from contextlib import suppress
from typing import Final

from taskiq.acks import AckableMessage
from taskiq.receiver import Receiver

from .gate import Gate
from .middleware import CachifyMiddleware

_callback: Final = Receiver.callback
_listen: Final = Receiver.listen


def gate_of(receiver: Receiver) -> Gate | None:
    """The gate of a receiver; None: its broker has no `CachifyMiddleware`."""
    for middleware in receiver.broker.middlewares:
        if isinstance(middleware, CachifyMiddleware):
            return middleware.gate(receiver)
    return None


@functools.wraps(_callback)
async def callback(self: Receiver, message: bytes | AckableMessage, raise_err: bool = False) -> None:
    gate = gate_of(self)
    if gate is None:
        await _callback(self, message, raise_err)
    else:
        await gate.on_callback(message, functools.partial(_callback, self, raise_err=raise_err))


def _wake_at_signals() -> None:
    """Let a signal wake the loop, as each does once the loop handles one: here one that means nothing to a worker.

    Else Taskiq's handler of SIGTERM is noticed when the next reply of the broker wakes the loop. Then redis-py is about
    to send again, and before Python 3.12 `asyncio.wait_for` loses the cancellation there: the worker never ends.
    """
    with suppress(ValueError, RuntimeError, NotImplementedError):  # it runs in another thread, or on Windows
        asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, lambda: None)


@functools.wraps(_listen)
async def listen(self: Receiver, finish_event: asyncio.Event) -> None:
    gate = gate_of(self)
    if gate is None:
        await _listen(self, finish_event)
        return
    gate.finish = finish_event
    _wake_at_signals()
    try:
        await _listen(self, finish_event)
    finally:
        await gate.close(self.wait_tasks_timeout)


Receiver.callback = callback  # type: ignore[method-assign]
Receiver.listen = listen  # type: ignore[method-assign]


class CachifyReceiver(Receiver):
    """For `taskiq worker --receiver cachify_tasks.taskiq:CachifyReceiver`, where classes may not be changed.

    Example:
        >>> from cachify_tasks.taskiq import CachifyReceiver
    """

    async def callback(self, message: bytes | AckableMessage, raise_err: bool = False) -> None:
        await callback(self, message, raise_err)

    async def listen(self, finish_event: asyncio.Event) -> None:
        await listen(self, finish_event)
