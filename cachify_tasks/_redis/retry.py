"""When a command is sent again: one policy for threads, event loops and a worker's hub.

Every command may be sent twice: its script answers the same the second time. docs/reference/retries.md has the table.
"""

from __future__ import annotations

import re
from typing import Final

from redis import exceptions

LOST: Final = exceptions.ConnectionError, exceptions.TimeoutError
DENIED: Final = exceptions.AuthenticationError, exceptions.AuthorizationError
PAUSES: Final = 0.02, 0.1  # seconds before the second and the third try, where a caller waits for the answer

_ELSEWHERE: Final = (
    exceptions.ReadOnlyError, exceptions.MasterDownError, exceptions.ClusterDownError, exceptions.BusyLoadingError,
)  # fmt: skip
_WRAPPED: Final = re.compile(r"-(READONLY|LOADING|MASTERDOWN|CLUSTERDOWN) ")  # in the error of a script


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
