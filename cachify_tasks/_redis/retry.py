"""When a command is sent again: one policy for threads, event loops and a worker's hub.

Every command may be sent twice: its script answers the same the second time. docs/reference/retries.md has the table.
"""

from __future__ import annotations

import re
from typing import Final

from redis import exceptions

LOST: Final = exceptions.ConnectionError, exceptions.TimeoutError
DENIED: Final = exceptions.AuthenticationError, exceptions.AuthorizationError
PAUSES: Final = 0.02, 0.1  # seconds before the second and the third try

_ELSEWHERE: Final = (
    exceptions.ReadOnlyError, exceptions.MasterDownError, exceptions.ClusterDownError, exceptions.BusyLoadingError,
)  # fmt: skip
_WRAPPED: Final = re.compile(r"-(READONLY|LOADING|MASTERDOWN|CLUSTERDOWN) ")  # in the error of a script


class Tries:
    """How often, and after which pauses, one command of a caller that waits is sent again.

    A lost connection is worth two more tries. A reply that did not come has cost a whole time-out: one more, at once. A
    refusal of the credentials is final.

    Args:
        timed_out: it has been sent before, and no reply came.
    """

    __slots__ = ("_pauses",)

    def __init__(self, *, timed_out: bool = False) -> None:
        self._pauses = [] if timed_out else list(PAUSES)

    def next_pause(self, error: Exception) -> float | None:
        """Seconds to wait before the next try; None: there is none."""
        if isinstance(error, DENIED) or not self._pauses:
            return None
        if isinstance(error, exceptions.TimeoutError):
            self._pauses.clear()
            return 0.0
        return self._pauses.pop(0)


class AnotherServer(exceptions.ConnectionError):
    """The server answers, but commands belong to another one: it is a replica now, or still loads its data.

    It counts as a lost connection: hang up, resolve the name again, connect, and send the command again.
    """


def means_another_server(reply: object) -> bool:
    """Does this reply mean that the command has to go to another server? Scripts may wrap such an error in theirs."""
    if not isinstance(reply, Exception):
        return False
    return isinstance(reply, _ELSEWHERE) or (
        isinstance(reply, exceptions.ResponseError) and _WRAPPED.search(str(reply)) is not None
    )


def another_server(reply: object) -> AnotherServer:
    return AnotherServer(f"the server refers to another one: {reply}")
