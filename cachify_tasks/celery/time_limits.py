"""Time limits that a worker's pool does not enforce: a task that hangs keeps its slot in spite of its limit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from celery.utils.log import get_logger

if TYPE_CHECKING:
    from .internals import Task, Worker

logger = get_logger("cachify_tasks.celery")

SHOWN: Final = 3  # names of tasks in the line
# By the module of Celery's pool: its name on the command line, and the limits that it drops. The greenlet pools differ:
# gevent gives the hard limit to `gevent.Timeout`. Of a pool that is not Celery's own we cannot know.
NOT_ENFORCED: Final = {
    "celery.concurrency.thread": ("threads", frozenset({"hard", "soft"})),
    "celery.concurrency.solo": ("solo", frozenset({"hard", "soft"})),
    "celery.concurrency.eventlet": ("eventlet", frozenset({"hard", "soft"})),
    "celery.concurrency.gevent": ("gevent", frozenset({"soft"})),
}


def warn_of_unenforced_limits(worker: Worker, tasks: Iterable[Task]) -> None:
    """Log one line if any of these tasks, which hold slots, has a time limit that the worker's pool does not enforce.

    A limit may be the task's own, or that of all tasks (`task_time_limit`, `--time-limit`).
    """
    name, dropped = NOT_ENFORCED.get(worker.pool_cls.__module__, ("", frozenset[str]()))
    kinds, limited = set[str](), []
    for task in tasks:
        hard, soft = task.time_limit or worker.time_limit, task.soft_time_limit or worker.soft_time_limit
        given = {kind for kind, limit in (("hard", hard), ("soft", soft)) if limit} & dropped
        if given:
            kinds |= given
            limited.append(task.name)
    if limited:
        more = len(limited) - SHOWN
        logger.warning(
            "the pool %s does not enforce %s time limits, and tasks with a slot have them: %s%s; one that hangs keeps "
            "its slot",
            name,
            " and ".join(sorted(kinds)),
            ", ".join(sorted(limited)[:SHOWN]),
            f" and {more} more" if more > 0 else "",
        )
