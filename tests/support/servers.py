"""Servers that somebody else started, named by environment variables."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

import pytest

DEFAULT_PORTS = {"redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671, "postgresql": 5432, "postgres": 5432}


def servers_are_required() -> bool:
    """Whether a missing server fails a test instead of skipping it."""
    return any(os.getenv(name, "").lower() not in ("", "0", "false") for name in ("CI", "CACHIFY_TEST_REQUIRE"))


def given_server(variable: str) -> str:
    """URL out of this environment variable, of a server that accepts connections.

    Unset: skips, or fails where servers are required. Set, and nobody answers: fails.
    """
    url = os.getenv(variable)
    if not url:
        reason = f"no server was given: set {variable} to its URL"
        if servers_are_required():
            pytest.fail(f"{reason} (CI or CACHIFY_TEST_REQUIRE is set, so this is no skip)")
        pytest.skip(reason)
    parts = urlsplit(url)
    address = (parts.hostname or "127.0.0.1", parts.port or DEFAULT_PORTS[parts.scheme])
    try:
        socket.create_connection(address, timeout=5).close()
    except OSError as error:
        pytest.fail(f"{variable} names {address[0]}:{address[1]}, which does not answer: {error}")
    return url
