"""Random tasks of many shapes, run with and without the package: nothing differs but when they run.

With Park and Reschedule the outcomes, and the arguments and headers that the bodies see, are the same, each as often.
With Drop and Raise each task does the same, or ends as documented. `CACHIFY_CHAOS=full` (`make chaos`) runs 2,000 tasks
on each kind of worker; CACHIFY_SEED repeats a run.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.states import READY_STATES

from cachify_tasks._runtime.instances import set_global_runtime
from cachify_tasks.celery.app import _states
from cachify_tasks.testing import assert_sound
from tests.celery.conftest import silence
from tests.chaos import shapes_app
from tests.support.waiting import PATIENCE_S, wait_until
from tests.support.workers import Worker

FULL = os.getenv("CACHIFY_CHAOS") == "full"
TASKS, KEYS = (2000, 20) if FULL else (150, 5)
WORKERS = ["prefork", "threads", "solo", "gevent", "spawn"] if FULL else ["prefork", "threads"]
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1200 if FULL else 300)]


class Program:
    """The same random calls for each app: made from a seed.

    Attributes:
        ids: of all tasks that end; some are sent twice.
        twice: ids that two messages share: which of their results is kept is chance.
        runs: id -> how many bodies run, where none is refused.
        strategy: id -> of its task.
    """

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.calls: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.twice: set[str] = set()
        self.runs: Counter[str] = Counter()
        self.strategy: dict[str, str] = {}
        while len(self.ids) < TASKS:
            kind = self.dice.choices(["one", "twice", "chain", "group", "chord"], [10, 1, 2, 2, 2])[0]
            count = {"one": 1, "twice": 2, "chain": 3, "group": 3, "chord": 4}[kind]
            # What may not run ends its chain: the strategies that drop are for single tasks.
            names = list(shapes_app.STRATEGIES) if kind == "one" else ["park", "reschedule"]
            parts = [self._part(names, fails=kind in ("one", "twice")) for _ in range(count)]
            if kind == "twice":
                parts[1]["id"] = parts[0]["id"]
                self.twice.add(parts[0]["id"])
            self.ids += [part["id"] for part in parts]
            self.calls.append({"kind": kind, "parts": parts})
            for part in parts:
                self.runs[part["id"]] += 1 + spec_of(part)["retries"]

    def _part(self, names: list[str], *, fails: bool) -> dict[str, Any]:
        dice, number = self.dice, len(self.strategy)
        strategy = dice.choice(names)
        _, *shape = dice.choice(shapes_app.SHAPES)
        task_id = f"t{number}"
        self.strategy[task_id] = strategy
        spec = {
            "n": number, "retries": dice.choice([0, 0, 0, 1, 2]), "auto": dice.random() < 0.5,
            "fails": fails and dice.random() < 0.15,
        }  # fmt: skip
        options: dict[str, Any] = {}
        if dice.random() < 0.3:
            options["headers"] = {"x-trace": f"h{number}"}
        if dice.random() < 0.1:
            options["countdown"] = 0.2
        if dice.random() < 0.2:
            options["expires"] = 3600
        if dice.random() < 0.2:
            options["compression"] = "zlib"
        if dice.random() < 0.2:
            options["priority"] = dice.randrange(10)
        extra: list[tuple[list[Any], dict[str, Any]]] = [
            ([], {}), ([number], {}), ([], {"colour": "red"}), ([1, [2]], {"a": {"b": None}}),
        ]  # fmt: skip
        more, named = dice.choice(extra)
        args: list[Any] = [f"k{dice.randrange(KEYS)}", spec, *more]
        kwargs = dict(named)
        if not more and dice.random() < 0.3:
            args, kwargs = [], {"key": args[0], "spec": spec, **kwargs}
        return {"id": task_id, "shape": (strategy, *shape), "args": args, "kwargs": kwargs, "options": options}

    def send(self, app: Celery) -> None:
        for call in self.calls:
            made = [self._signature(app, part) for part in call["parts"]]
            match call["kind"]:
                case "one" | "twice":
                    for signature in made:
                        signature.apply_async()
                case "chain":
                    chain(*made, app=app).apply_async()
                case "group":
                    group(*made, app=app).apply_async()
                case "chord":
                    chord(made[:-1], made[-1], app=app).apply_async()

    @staticmethod
    def _signature(app: Celery, part: dict[str, Any]) -> Any:
        task: Any = app.tasks[shapes_app.name_of(*part["shape"])]
        return task.signature(
            tuple(part["args"]), part["kwargs"], immutable=True, task_id=part["id"], **part["options"]
        )  # fmt: skip


def run(program: Program, folder: Path, pool: str, broker: str, store: str, *, gated: bool) -> tuple[Any, Any]:
    """Send the program to a worker; each id's end, and what the bodies saw.

    A plain gevent worker of Celery 5.7 may lose a task: a result's finalizer switches greenlets in the hub
    (`BlockingSwitchOutError`). Such a task is in no READY state here.
    """
    tolerant = pool == "gevent"
    folder.mkdir()
    conf = {"worker_pool_start_method": "spawn"} if pool == "spawn" else {}
    shutil.copy(shapes_app.__file__, folder)
    (folder / "app.py").write_text(
        f"from shapes_app import make\n\napp = make({broker!r}, {store!r}, gated={gated}, **{conf!r})\n"
    )
    seen = folder / "seen.jsonl"
    os.environ["SHAPES_SEEN"] = str(seen)
    app = shapes_app.make(broker, store, gated=gated, **conf)
    silence(app)
    backend: Any = app.backend
    runs = program.runs.total()
    try:
        with Worker(folder, pool="prefork" if pool == "spawn" else pool, concurrency=4):
            program.send(app)
            states = dict.fromkeys(program.ids, "PENDING")

            def ended() -> bool:
                for task_id in [i for i, state in states.items() if state not in READY_STATES]:
                    states[task_id] = backend.get_task_meta(task_id, cache=False)["status"]
                left = [i for i, state in states.items() if state not in READY_STATES]
                if any(states[i] != "RETRY" for i in left):
                    return False
                runs = Counter(json.loads(line)[0] for line in seen.read_text().splitlines()) if left else Counter()
                return all(runs[i] >= program.runs[i] for i in left)  # Celery stored RETRY after its end

            try:
                wait_until(ended, PATIENCE_S)
            except AssertionError:
                left = {i: state for i, state in states.items() if state not in READY_STATES}
                if gated or not tolerant:
                    raise AssertionError(f"these did not end: {left}") from None
                print(f"these did not end without the package either: {left}")  # noqa: T201
            else:
                left = {}
            if program.twice and not left:  # the other of two tasks under one id
                wait_until(lambda: _settled(seen, runs, program, gated), 60, "all runs")
        metas = {i: backend.get_task_meta(i, cache=False) for i in {*program.ids}}
        ends = {i: (meta["status"], repr(meta["result"])) for i, meta in metas.items()}
        return ends, [json.loads(line) for line in seen.read_text().splitlines()]
    finally:
        del os.environ["SHAPES_SEEN"]
        app.close()
        set_global_runtime(None)
        _states.pop(app, None)


def _settled(seen: Path, runs: int, program: Program, gated: bool) -> bool:
    sure = [i for i in program.ids if program.strategy[i] in ("park", "reschedule")]
    lines = [json.loads(line)[0] for line in seen.read_text().splitlines()]
    count = Counter(lines)
    if gated:  # what is dropped has no run
        return all(count[i] >= 2 for i in program.twice if i in sure)
    return len(lines) >= runs


@pytest.mark.parametrize("pool", WORKERS)
def test_a_task_of_any_shape_is_the_same_task_in_a_pool(tmp_path, pool, redis_url, broker_url, worker_processes):
    if pool == "gevent":
        pytest.importorskip("gevent")
    seed = int(os.getenv("CACHIFY_SEED", "0")) or (random.randrange(10**9) if FULL else 7)
    print(f"CACHIFY_SEED={seed}")  # noqa: T201  # to repeat it
    program = Program(seed)
    started = time.monotonic()

    plain_ends, plain_seen = run(program, tmp_path / "plain", pool, broker_url, redis_url, gated=False)
    without = time.monotonic() - started
    with_db(broker_url)
    ends, seen = run(program, tmp_path / "gated", pool, broker_url, redis_url, gated=True)

    print(f"{len(program.ids)} tasks: {without:.0f} s without, {time.monotonic() - started - without:.0f} s with")  # noqa: T201
    comparable = {i for i in program.ids if plain_ends[i][0] in (*READY_STATES, "RETRY")}
    assert len(comparable) > 0.9 * len({*program.ids}), "Celery alone lost too many tasks"
    same = [i for i in program.ids if i in comparable and program.strategy[i] in ("park", "reschedule")]
    told = {i for i in comparable if "RETRY" not in (ends[i][0], plain_ends[i][0])}
    for task_id in sorted({*same} & told - program.twice):
        assert ends[task_id] == plain_ends[task_id], (task_id, "with and without")
    assert bodies(seen, same) == bodies(plain_seen, same)
    refused = {"drop": "REVOKED", "raise": "FAILURE"}
    for task_id in sorted(told - {*same}):
        full = ends[task_id][0] == refused[program.strategy[task_id]] and "full" in ends[task_id][1]
        assert full or ends[task_id] == plain_ends[task_id], (task_id, ends[task_id])
    assert_sound(redis_url, settled=True)


def spec_of(part: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = part["kwargs"]["spec"] if "spec" in part["kwargs"] else part["args"][1]
    return spec


def bodies(seen: list[Any], ids: list[str]) -> Counter[str]:
    return Counter(json.dumps(one, sort_keys=True) for one in seen if one[0] in ids)


def with_db(url: str) -> None:
    """Forget the results of the first run: the ids come again."""
    import redis

    with redis.Redis.from_url(url) as client:
        client.flushdb()
