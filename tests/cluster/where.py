"""Where the cluster is, and what its workers are called."""

from __future__ import annotations

import os

# An image that has this package, Celery and pydantic; without one the cluster is processes on this machine.
IMAGE = os.getenv("CACHIFY_TEST_CLUSTER_IMAGE", "")
NAMES = ("first", "second")
QUEUE = "shop"
