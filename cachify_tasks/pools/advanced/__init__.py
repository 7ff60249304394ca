"""Blocking calls in threads, from asyncio. A job is offered to the crew → an idle worker has it at once, else it waits
in the lanes → the worker runs it → the outbox tells the event loop of all that has ended, once per batch.
"""

from .pool import AdvancedPool
from .stats import AdvancedPoolStats

__all__ = ["AdvancedPool", "AdvancedPoolStats"]
