"""Messages that a store in memory keeps until they are due: the twin of take_postponed.lua."""

from __future__ import annotations

from .._core.replies import Postponed


def take_postponed(waiting: dict[str, tuple[int, bytes]], limit: int, hide_ms: int, now: int) -> Postponed:
    """Those that are due; for a while nobody else gets them.

    Args:
        waiting: the messages of one queue by their names, each with the time at which it is due.
    """
    due = sorted((at, name) for name, (at, _) in waiting.items() if at <= now)[:limit]
    messages = {name: waiting[name][1] for _, name in due}
    for name, message in messages.items():
        waiting[name] = now + hide_ms * 1000, message
    following = min((at for at, _ in waiting.values()), default=None)
    return Postponed(messages, None if following is None else max(0, -((now - following) // 1000)))
