"""Blocking calls in threads, from asyncio.

The pool offers a job to the scheduler. An idle worker gets it at once, else it waits in the priority queue. The worker
runs it and appends the outcome to the completions, which wake the event loop once for a whole batch of outcomes.
"""

from .pool import AdvancedPool
from .stats import AdvancedPoolStats

__all__ = ["AdvancedPool", "AdvancedPoolStats"]
