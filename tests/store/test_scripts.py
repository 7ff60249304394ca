"""The Lua files: what their headers promise is what is sent; they run where the server has forgotten them; what
they cost."""

import re
from collections import Counter
from dataclasses import fields
from importlib.resources import files
from typing import Any, get_args

import pytest

from cachify_tasks import init_cachify
from cachify_tasks._core import commands
from cachify_tasks._core.keys import PoolKeys, Schema
from cachify_tasks._store import scripts
from cachify_tasks._store.scripts import NAMES, arguments, script
from tests.support.programs import run
from tests.support.stores import POOL

FOLDER = files("cachify_tasks").joinpath("_store", "_lua")
SCHEMA = Schema("t")
COMMANDS: dict[str, Any] = {
    cls.script: cls for cls in vars(commands).values() if isinstance(cls, type) and hasattr(cls, "script")
}
EXAMPLE: dict[str, Any] = {
    "pool": POOL,
    "holder": "h",
    "rid": "r",
    "label": "l",
    "envelope": b"e",
    "limit": 1234,
    "tasks": ("t",),
}
# Header words for fields that are not sent one by one.
FLAGS = {"park": "flags", "nudge": "flags", "fresh": "flags", "starts": "flags", "again": "flags", "binds": "flags"}


def header(name: str) -> str:
    lines = FOLDER.joinpath(f"{name}.lua").read_text("utf-8").splitlines()
    first_code = next(number for number, line in enumerate(lines) if not line.startswith("--"))
    return "\n".join(line.removeprefix("--").strip() for line in lines[:first_code])


def numbered(name: str, word: str) -> dict[int, str]:
    """{number: name} out of a header's lines such as "ARGV 3 holder, 4 token; 5 rid, where ..."."""
    lines = " ".join(re.findall(rf"^{word} (.*)$", header(name), re.MULTILINE))
    return {int(n): label for n, label in re.findall(r"(\d+) (\w+)", lines)}


def example(name: str) -> Any:
    """A command of which every value tells its field."""
    cls = COMMANDS[name]
    values = {field.name: EXAMPLE.get(field.name, 1000 + number) for number, field in enumerate(fields(cls))}
    return cls(**{key: True if key in FLAGS or key == "acked" else value for key, value in values.items()})


def test_every_script_has_its_command_and_its_file():
    assert set(NAMES) == set(COMMANDS)
    assert {path.name for path in FOLDER.iterdir() if path.name.endswith(".lua")} == {
        f"{name}.lua" for name in ("common", *NAMES)
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_header_tells_purpose_keys_arguments_and_reply(name):
    assert header(name).startswith(f"{name}: ")
    assert re.search(r"^reply: \S", header(name), re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_the_keys_of_a_header_are_those_sent(name):
    told = {**numbered("common", "KEYS"), **numbered(name, "KEYS")}
    if not numbered(name, "KEYS"):
        told.pop(max(told))
    keys = SCHEMA.pool(POOL)
    expected = [keys.done + "h" if told[n] == "done" else getattr(keys, told[n]) for n in range(1, len(told) + 1)]

    count, *rest = arguments(example(name), SCHEMA, "")

    assert rest[:count] == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_arguments_of_a_header_are_those_sent(name):
    own = numbered(name, "ARGV")
    told = [own.get(number) for number in range(3, 3 + len(own))]
    command = example(name)

    count, *rest = arguments(command, SCHEMA, "now")
    now, pool, *sent = rest[count:]

    assert (now, pool) == ("now", POOL)
    assert len(sent) == len(told), f"{name}.lua tells of {told}"
    for label, value in zip(told, sent, strict=True):
        if label == "flags":
            given = sorted(field for field in FLAGS if getattr(command, field, False))
            assert sorted(value) == [field[0] for field in given]
        elif label == "acked":
            assert value == "1"
        elif label == "tasks":
            assert (value,) == command.tasks
        else:
            assert value == getattr(command, label or "")


@pytest.mark.parametrize("name", NAMES)
def test_every_field_of_a_command_is_in_the_header(name):
    told = {"pool", *numbered(name, "ARGV").values()}

    assert {FLAGS.get(field.name, field.name) for field in fields(COMMANDS[name])} == told


@pytest.mark.parametrize("name", NAMES)
def test_a_header_names_every_status_that_the_script_answers(name):
    promised = re.search(r"^reply: (.*)$", header(name), re.MULTILINE)
    assert promised
    code = FOLDER.joinpath(f"{name}.lua").read_text("utf-8")
    statuses = set(get_args(commands.Status))
    answered = {word for word in re.findall(r"'(\w+)'", code) if word in statuses}

    assert answered == {word for word in re.findall(r"\w+", promised[1]) if word in statuses}


def test_all_keys_of_a_pool_and_its_indexes_are_in_one_cluster_slot():
    keys = PoolKeys(*SCHEMA.pool("any {name}"))
    tags = {re.search(r"\{(.*?)\}", key)[1] for key in keys}  # type: ignore[index]  # each has a tag

    assert len(tags) == 1
    assert keys.leased in SCHEMA.leased()
    assert keys.waiting in SCHEMA.waiting()


def test_a_server_that_has_forgotten_the_scripts_learns_them_again(redis_store):
    redis_store.acquire("a", limit=2)
    redis_store.client.script_flush()

    assert redis_store.acquire("b", limit=2).held == 2


def test_a_task_that_was_parked_before_a_forgotten_script_is_no_copy_of_itself(redis_store):
    token = redis_store.acquire("a").token
    redis_store.client.script_flush()
    redis_store.client.script_load(script("acquire").text)
    release = commands.Release(
        pool=POOL,
        holder="a",
        token=token,
        request_id="a",
        start_ms=5000,
        tomb_ms=5000,
        can_start_heirs=True,
        reserve_for_me=True,
    )
    ask = commands.Acquire(
        pool=POOL,
        holder="b",
        request_id="rid",
        limit=1,
        lease_ms=1000,
        start_ms=5000,
        first_delivery=True,
        ticket=commands.Ticket(kind="task/test", envelope=b"e"),
    )

    released, asked = redis_store.store.execute_many([release, ask])

    assert [heir.holder for heir in released.heirs] == ["b"]
    assert asked.status == "parked"


def test_a_batch_is_answered_in_order_though_the_scripts_are_forgotten(redis_store):
    token = redis_store.acquire("a").token
    redis_store.client.script_flush()

    first, second, third = redis_store.store.execute_many(
        [
            commands.Renew(pool=POOL, holder="a", token=token, lease_ms=1000),
            commands.Renew(pool=POOL, holder="b", token=7, lease_ms=1000),
            commands.Size(POOL),
        ]
    )

    assert (first.status, second.status, third) == ("renewed", "lost", 1)


def test_an_error_in_a_batch_is_the_answer_to_its_command_alone(redis_store):
    token = redis_store.acquire("a").token
    redis_store.client.set(SCHEMA.pool("broken").slots, "no sorted set", ex=60)

    broken, whole = redis_store.store.execute_many(
        [
            commands.Renew(pool="broken", holder="a", token=token, lease_ms=1000),
            commands.Renew(pool=POOL, holder="a", token=token, lease_ms=1000),
        ]
    )

    assert "WRONGTYPE" in str(broken)
    assert whole.status == "renewed"


def test_a_script_is_named_by_its_digest():
    assert script("size").text.endswith(FOLDER.joinpath("size.lua").read_text("utf-8"))
    assert len(script("size").sha) == 40
    assert scripts.script("size") is script("size")


def test_a_first_release_when_the_interpreter_ends_frees_its_slot(redis_url):
    run(
        """
        import sys
        from cachify_tasks import init_cachify, pool
        init_cachify(url=sys.argv[1])
        class Owner:
            def __del__(self):
                self.held.release()
        owner = Owner()
        owner.held, owner.itself = pool("p", max_size=1).acquire(), owner  # collected when modules are gone
        """,
        redis_url,
    )

    cachify = init_cachify(url=redis_url, is_global=False)
    assert cachify.pool("p", max_size=1).size() == 0
    cachify.close()


@pytest.mark.parametrize(
    ("message", "more"),
    [({"fresh": True}, []), ({"envelope": b"m", "park": True, "starts": True, "priority": 3}, ["get"])],
    ids=["plain", "message"],
)
def test_a_slot_where_nobody_waits_costs_so_many_commands(redis_store, message, more):
    def executed():
        found = redis_store.client.info("commandstats")
        calls = Counter({name.removeprefix("cmdstat_"): found[name]["calls"] for name in found})
        return Counter({name: calls[name] for name in calls if name not in ("info", "evalsha")})

    redis_store.release("first", redis_store.plain("first").token)  # connects, loads, gives the keys their lives
    before = executed()

    token = redis_store.plain("h:0", **message).token
    acquired = executed()
    redis_store.release("h:0", token)

    assert acquired - before == Counter(["hmget", "zcard", "hset", "zadd", "zadd", "pexpireat", "pexpire", *more])
    assert executed() - acquired == Counter(["hmget", "zcard", "zrem", "zrem", "hdel", "set"])
