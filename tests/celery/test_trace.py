"""The files that a delivery goes through in a prefork worker are those of CONTRIBUTING's table."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from tests.support.waiting import PATIENCE_S, wait_until

ROOT = Path(__file__).parents[2]
AT_MOST = 12


def test_a_delivery_goes_through_the_files_that_the_contributing_guide_lists(make_shop):
    shop = make_shop()
    shutil.copy(ROOT / "tests" / "support" / "trace.py", shop.folder / "trace.py")

    with shop.worker(concurrency=1, args=["-I", "trace"]):
        shop.send("park", "k").get()  # the first one fills caches
        shop.wait_quiet()  # its end is not on the way of the next one
        traced = shop.send("park", "k")
        traced.get()

    file = shop.folder / f"trace-{traced.id}.json"
    wait_until(file.exists, PATIENCE_S, "the trace")
    found = json.loads(file.read_text())
    assert len(found) <= AT_MOST, found
    assert sorted(found) == _listed()


def _listed() -> list[str]:
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    table = guide.partition("from the arrival of a delivery to its dispatch")[2].partition("\n\n5.")[0]
    return sorted(set(re.findall(r"`cachify_tasks/([\w/]+\.py)`", table)))
