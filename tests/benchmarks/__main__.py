"""`make bench`: one table. A word selects a part: `python -m tests.benchmarks pools`."""

from __future__ import annotations

import logging
import sys

from cachify_tasks.testing.server import EmbeddedServer

from . import advancedpool, cachepool, connectionpool, parking, pools, waiting, workers
from .table import Table

PARTS = {
    "pools": pools.bench,
    "celery": workers.bench,
    "parking": parking.bench,
    "waiting": waiting.bench,
    "cachepool": cachepool.bench,
    "connectionpool": connectionpool.bench,
    "advancedpool": advancedpool.bench,
}


def main() -> None:
    logging.disable(logging.WARNING)
    chosen = [part for part in PARTS if part in sys.argv[1:]] or list(PARTS)
    table = Table()
    with EmbeddedServer() as server:
        for part in chosen:
            PARTS[part](table, server.url)
    table.show()


if __name__ == "__main__":
    main()
