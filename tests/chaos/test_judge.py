"""The judges of a storm see what they are there to see."""

import json

import redis

from cachify_tasks._worker.attempt import Attempt, Header, Hint
from tests.chaos import judge
from tests.chaos.history import Broker
from tests.chaos.judge import Fault, Run


def run(name: str, begin: float, end: float | None, *, token: int = 1, held: float | None = None, **more) -> Run:
    """A run of a pool with limit 1; held to its end unless told."""
    return Run(name, "key", 1, token, **{"pid": 11, "main": 1} | more, begin=begin, end=end, held=held or end)


def test_two_valid_leases_at_one_moment_are_over_a_limit_of_one():
    assert judge.over_limit([run("a", 1, 3), run("b", 2, 4)]) == {"key": (2, 1)}
    assert judge.over_limit([run("a", 1, 2), run("b", 2, 4)]) == {}


def test_a_run_counts_only_as_long_as_its_lease_was_valid():
    runs = [run("a", 1, 9, held=2, lost=True), run("b", 3, 4)]

    assert judge.over_limit(runs) == {}
    assert judge.peaks(runs, valid=False) == {"key": (2, 1)}


def test_a_run_is_put_together_from_its_stamps():
    line = {"id": "a", "key": "key", "token": 5, "pid": 11}
    lines = [
        {**line, "event": "begin", "limit": 2, "main": 1, "t": 1.0},
        {**line, "event": "held", "t": 2.1, "at": 2.0},
        {**line, "event": "lost", "t": 3.0},
        {**line, "event": "end", "t": 4.0},
    ]

    assert judge.runs_of(lines) == [Run("a", "key", 2, 5, 11, 1, begin=1.0, held=2.0, end=4.0, lost=True)]
    assert judge.runs_of(lines[:1]) == [Run("a", "key", 2, 5, 11, 1, begin=1.0)]


def test_a_second_run_needs_a_reason():
    first, again = run("a", 1, 3), run("a", 9, 10, token=2, pid=22, main=2)

    def why(before: Run, *faults: Fault, let_go: tuple[str, ...] = ()) -> list[str]:
        return list(judge.second_runs([before, again], faults, let_go))

    assert why(first) == [judge.UNEXPLAINED]
    assert why(first, Fault("worker", 2, 2)) == [judge.UNEXPLAINED]
    assert why(first, Fault("child", 11, 0.5), Fault("child", 11, 5.5)) == [judge.UNEXPLAINED]
    assert why(run("a", 11, 12), Fault("worker", 1, 8.5)) == [judge.UNEXPLAINED]
    assert why(run("a", 11, None, held=11), Fault("worker", 1, 10.9)) == ["worker killed"]
    assert why(first, Fault("worker", 1, 3.5)) == ["worker killed before the end was told"]
    assert why(run("a", 1, None, held=2), Fault("child", 11, 2)) == ["child killed"]
    assert why(run("a", 1, 8, held=2, lost=True), Fault("stop", 1, 2)) == ["lease lost in a stopped worker"]
    assert why(run("a", 11, 12, lost=True), Fault("stop", 1, 2)) == ["lease lost"]  # granted first, begun last
    assert why(first, let_go=("a",)) == ["let go with the connection"]
    assert why(first, let_go=("b",)) == [judge.UNEXPLAINED]


def test_inversions_are_counted_per_key():
    runs = [run("a", 1, 2), run("c", 3, 4), run("b", 5, 6)]

    assert judge.inversions(runs, ["a", "b", "c"]) == 1
    assert judge.inversions(runs, ["a", "c", "b"]) == 0


def test_a_message_that_was_popped_and_never_written_down_is_lost_by_its_broker(tmp_path, private_server):
    files = tmp_path / "aof"
    files.mkdir()
    server = private_server(append_only=files, extra_args=("--auto-aof-rewrite-percentage", "0"))

    def message(tag: str, task: str, attempt: str = "") -> str:
        headers = {"id": task, "cachify_attempt": attempt}
        return json.dumps({"headers": headers, "properties": {"delivery_tag": tag}})

    with redis.Redis.from_url(server.url.removesuffix("/0") + "/1") as client:
        for tag, task in (("t1", "lost"), ("t2", "held"), ("t3", "acked"), ("t4", "restored"), ("t5", "waits")):
            client.lpush("storm", message(tag, task))
        client.lpush("storm", message("t6", "parked", Header(hint=Hint(pool="p")).encode(Attempt("parked"))))
        client.lpush("other", "somebody else's")
        client.rpop("other")
        client.brpop("storm", 1)  # t1
        for tag in ("t2", "t3", "t4"):
            client.brpop("storm", 1)
            client.hset("unacked", tag, "....")
        client.hdel("unacked", "t3", "t4")
        client.rpush("storm", message("t4", "restored"))
        server.restart()
        client.rpop("storm\x06\x163")
        client.lrange("storm", 0, -1)
        client.lpop("storm")  # t6

    broker = Broker(files, "storm")
    assert broker.lost() == {"t1": "lost"}
    assert broker.lost_hints() == 1
    assert broker.where == {
        "t1": "popped", "t2": "unacked", "t3": "done", "t4": "queued", "t5": "queued", "t6": "popped",
    }  # fmt: skip
