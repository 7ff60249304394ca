"""`python -m cachify_tasks.demo`."""

from __future__ import annotations

import sys

from .signals import Interrupted, listen


def run() -> int:
    """The demo, with an exit code for whatever ends it; 128 and the signal's number after SIGINT or SIGTERM."""
    listen()
    try:
        from .cli import main

        return main()
    except ModuleNotFoundError as error:
        print(f"the demo needs the package {error.name!r}: pip install 'cachify-tasks[demo]'", file=sys.stderr)
        return 2
    except Interrupted as error:
        print(f"\ninterrupted by {error.signal.name}; server and worker are gone", file=sys.stderr)
        return 128 + error.signal


if __name__ == "__main__":
    sys.exit(run())
