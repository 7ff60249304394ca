"""Draws tasks-per-key.svg from a real run: `python docs/assets/tasks_per_key.py`.

It starts a server and a Celery worker of its own, sends tasks for three tenants, and draws each task from the moment
when it started to the moment when it ended, as the task itself has measured it.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from celery import Celery

from cachify_tasks import pooled
from cachify_tasks.celery import setup
from cachify_tasks.demo.worker import Worker, forget_urls
from cachify_tasks.testing.server import EmbeddedServer

HERE = Path(__file__).parent
LIMIT = 2
NO_WAIT = 0.1  # seconds from sending to the start of a task that need not wait
# When a tenant sends its tasks, and how many seconds each of them works.
SENT = {
    "acme": (0.0, [0.9, 0.5, 0.6, 0.8, 0.4, 0.7, 0.5, 0.6, 0.7, 0.5]),
    "bolt": (0.4, [0.6, 0.9, 0.5, 0.4, 0.7, 0.6]),
    "cleo": (1.0, [0.7, 0.5, 0.8]),
}

app = Celery("tasks_per_key")
setup(app)


@app.task
@pooled(key="tenant-{tenant}", max_size=LIMIT)
def sync_orders(tenant: str, number: int, seconds: float) -> tuple[float, float]:
    started = time.monotonic()
    time.sleep(seconds)
    return started, time.monotonic()


@dataclass(frozen=True, slots=True)
class Run:
    """One task; times are seconds of one clock."""

    number: int
    sent: float
    started: float
    ended: float

    @property
    def waited(self) -> bool:
        """True if it found its pool full: a process is free for every slot."""
        return self.started - self.sent > NO_WAIT


def run_tasks() -> dict[str, list[Run]]:
    """What ran for each tenant, in the order of starts."""
    forget_urls()
    with EmbeddedServer() as server:
        app.conf.update(broker_url=server.url, result_backend=server.url)
        with Worker(app.main, server.url, concurrency=LIMIT * len(SENT), folder=HERE) as worker:
            while not app.control.ping(timeout=0.2):
                worker.check()
            begin = time.monotonic()
            sent = []
            for tenant, (delay, durations) in SENT.items():
                time.sleep(max(0.0, begin + delay - time.monotonic()))
                for number, seconds in enumerate(durations, 1):
                    sent.append(
                        (
                            tenant,
                            number,
                            time.monotonic(),
                            sync_orders.delay(tenant, number, seconds),
                        )
                    )
            runs: dict[str, list[Run]] = {tenant: [] for tenant in SENT}
            for tenant, number, at, result in sent:
                started, ended = result.get(timeout=30)
                runs[tenant].append(Run(number, at - begin, started - begin, ended - begin))
    return {tenant: sorted(of, key=lambda run: run.started) for tenant, of in runs.items()}


WIDTH, LEFT, RIGHT, TOP = 880, 130, 850, 84
LANE, GAP = 26, 16
STYLE = """
svg { font-family: system-ui, "Segoe UI", "DejaVu Sans", sans-serif; font-size: 14px }
.page { fill: #ffffff } .band { fill: #eef1f5 } .grid { stroke: #c9d0d9 }
text { fill: #1f2733 } .dim { fill: #5b6675 } .code { font-family: ui-monospace, "DejaVu Sans Mono", monospace }
.atonce { fill: #1f6fd1 } .waited { fill: #b45f00 } .number { fill: #ffffff; font-size: 13px; text-anchor: middle }
.end { text-anchor: end } .mid { text-anchor: middle }
@media (prefers-color-scheme: dark) {
.page { fill: #12161c } .band { fill: #262e39 } .grid { stroke: #3a4452 }
text { fill: #e6eaf0 } .dim { fill: #9aa6b5 }
.atonce { fill: #5aa2f0 } .waited { fill: #f0a64a } .number { fill: #12161c }
}
"""


def draw(tenants: dict[str, list[Run]]) -> str:
    """An SVG document with two lanes for each tenant: a third task at once would find no lane, and end the script."""
    last = max(run.ended for runs in tenants.values() for run in runs)
    scale = (RIGHT - LEFT) / last
    foot = TOP + len(tenants) * (LIMIT * LANE + GAP)
    parts = [
        '<text class="code" x="24" y="32">@pooled(key="tenant-{tenant}", max_size=2)</text>',
        '<rect class="atonce" x="24" y="50" width="16" height="12"/><text x="47" y="61">started at once</text>',
        '<rect class="waited" x="186" y="50" width="16" height="12"/>'
        '<text x="209" y="61">waited in the queue of its key, then started</text>',
    ]
    for second in range(int(last) + 1):
        x = LEFT + second * scale
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP - 4}" x2="{x:.1f}" y2="{foot - 8}"/>')
        parts.append(f'<text class="mid dim" x="{x:.1f}" y="{foot + 10}">{second} s</text>')
    for place, (tenant, runs) in enumerate(tenants.items()):
        top = TOP + place * (LIMIT * LANE + GAP)
        band = f'<rect class="band" x="{LEFT}" y="{top}" width="{RIGHT - LEFT}" height="{LIMIT * LANE}" rx="3"/>'
        parts.insert(0, band)
        parts.append(f'<text class="end" x="{LEFT - 14}" y="{top + LANE + 5}">tenant-{tenant}</text>')
        free_from = [0.0] * LIMIT
        for run in runs:
            lane = next(lane for lane, free in enumerate(free_from) if free <= run.started)
            free_from[lane] = run.ended
            parts.append(bar(run, top + lane * LANE, scale))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {foot + 28}" '
            f'width="{WIDTH}" height="{foot + 28}" role="img">',
            "<title>Tasks of three tenants over time: never more than two of a tenant at once</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="page" width="{WIDTH}" height="{foot + 28}" rx="8"/>',
            *parts,
            "</svg>\n",
        ]
    )


def bar(run: Run, y: int, scale: float) -> str:
    x, width = LEFT + run.started * scale, (run.ended - run.started) * scale
    style = "waited" if run.waited else "atonce"
    return (
        f'<rect class="{style}" x="{x:.1f}" y="{y + 2}" width="{width - 1:.1f}" height="{LANE - 4}" rx="3"/>'
        f'<text class="number" x="{x + width / 2:.1f}" y="{y + 18}">{run.number}</text>'
    )


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "tasks-per-key.svg"
    target.write_text(draw(run_tasks()), encoding="utf-8")
