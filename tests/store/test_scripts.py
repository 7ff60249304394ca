"""The Lua files: their headers say what is sent; they run where the server has forgotten them; what they cost."""

import re
from collections import Counter
from dataclasses import fields
from importlib.resources import files
from typing import Any, get_args

import pytest

from cachify_tasks import init_cachify
from cachify_tasks._core import commands, key_commands
from cachify_tasks._core.keys import PoolKeys, Schema
from cachify_tasks._core.replies import Status
from cachify_tasks._store import records, scripts
from cachify_tasks._store.key_commands import calls_of
from cachify_tasks._store.records import SlotRecord, TicketRecord
from cachify_tasks._store.scripts import NAMES, arguments, script
from tests.support.programs import run
from tests.support.stores import POOL

FOLDER = files("cachify_tasks").joinpath("_store", "_lua")
SOURCES = {path.name.removesuffix(".lua"): path.read_text("utf-8") for path in FOLDER.iterdir()}
SCHEMA = Schema("t")
COMMANDS: dict[str, Any] = {
    cls.script: cls for cls in vars(commands).values() if isinstance(cls, type) and hasattr(cls, "script")
}
TICKET = commands.Ticket(kind="k", envelope=b"e", task_id="t", priority=77, max_parked=88)
EXAMPLE: dict[str, Any] = {
    "pool": POOL,
    "holder": "h",
    "request_id": "r",
    "label": "l",
    "limit": 1234,
    "channel": "c",
    "starter": "s",
    "tasks": ("t",),
    "ticket": TICKET,
}


def header(name: str) -> str:
    lines = SOURCES[name].splitlines()
    first = next(number for number, line in enumerate(lines) if not line.startswith("--") or "include" in line)
    return "\n".join(line.removeprefix("--").strip() for line in lines[:first])


def with_parts(name: str) -> list[str]:
    """The script and the files that it includes."""
    included = re.findall(r"^-- include (\w+)$", SOURCES[name], re.MULTILINE)
    return [part for one in included for part in with_parts(one)] + [name]


def numbered(name: str, word: str) -> dict[int, str]:
    """{number: name} out of the headers' lines such as "ARGV 3 holder, 4 token", those of included files too."""
    found: dict[int, str] = {}
    for part in with_parts(name):
        for line in re.findall(rf"^{word} (\d.*)$", header(part), re.MULTILINE):
            found |= {int(n): label for n, label in re.findall(r"(\d+) (\w+)", line)}
    return found


def example(name: str) -> Any:
    """A command of which every value is another one."""
    cls = COMMANDS[name]
    values = {field.name: EXAMPLE.get(field.name, 1000 + number) for number, field in enumerate(fields(cls))}
    flags = {field.name for field in fields(cls) if field.type == "bool"}
    return cls(**{key: True if key in flags else value for key, value in values.items()})


def test_every_script_has_its_command_and_its_file_and_every_file_is_used():
    used = {part for name in NAMES for part in with_parts(name)}

    assert {*COMMANDS, "ping", "postpone", "take_postponed"} == set(NAMES)  # the three are of no pool
    assert set(SOURCES) == used


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_file_begins_with_its_purpose(name):
    assert header(name).startswith(f"{name}: ")
    if name in NAMES:
        assert re.search(r"^reply: \S", header(name), re.MULTILINE)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_keys_of_a_header_are_those_sent(name):
    named = numbered(name, "KEYS")
    keys = SCHEMA.pool(POOL)._asdict() | {"tombstone": SCHEMA.pool(POOL).tombstone + "h"}

    count, *rest = arguments(example(name), SCHEMA, "")

    assert rest[:count] == [keys[named[number]] for number in range(1, len(named) + 1)]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_arguments_of_a_header_are_the_fields_sent(name):
    named = numbered(name, "ARGV")
    command = example(name)
    values = {field.name: getattr(command, field.name) for field in fields(command)}
    if "ticket" in values:
        values |= {field.name: getattr(TICKET, field.name) for field in fields(TICKET)}
        del values["ticket"]

    count, *rest = arguments(command, SCHEMA, "now")
    sent = rest[count:]

    assert sorted(named) == list(range(1, len(sent) + 1))
    assert {*named.values()} == {*values, "now"}
    for number, value in enumerate(sent, 1):
        expected = {**values, "now": "now"}[named[number]]
        assert value == ("1" if expected is True else expected[0] if isinstance(expected, tuple) else expected)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_an_acquire_without_a_ticket_and_false_flags_are_sent_short(name):
    command = example(name)
    flags = {field.name: False for field in fields(command) if field.type == "bool"}
    ticket = {"ticket": None} if name == "acquire" else {}

    sent = arguments(
        type(command)(**{f.name: getattr(command, f.name) for f in fields(command)} | flags | ticket), SCHEMA, ""
    )

    assert "1" not in sent
    assert len(sent) == len(arguments(command, SCHEMA, "")) - 6 * len(ticket)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_keys_and_arguments_are_bound_to_names_before_the_script_begins(name):
    whole = script(name).text

    for word, count in (("KEYS", 7), ("ARGV", len(numbered(name, "ARGV")))):
        for number in range(1, count + 1):
            assert len(re.findall(rf"\b{word}\[{number}\]", re.sub("--.*", "", whole))) <= 1


@pytest.mark.parametrize("name", NAMES)
def test_a_header_names_every_status_that_the_script_answers(name):
    promised = re.search(r"^reply: (.*)$", header(name), re.MULTILINE)
    assert promised
    statuses = set(get_args(Status))
    answered = {word for word in re.findall(r"'(\w+)'", SOURCES[name]) if word in statuses}

    assert answered == {word for word in re.findall(r"\w+", promised[1]) if word in statuses}


def test_lua_and_python_name_fields_and_count_alike():
    constants = dict(re.findall(r"^local (\w+) = (\d+)\b", SOURCES["pool"], re.MULTILINE))
    names, values = re.findall(r"^local (SLOT, .*) = (.*)$", SOURCES["records"], re.MULTILINE)[0]

    assert re.findall(r"'(.*?)'", values) == [getattr(records, name) for name in names.split(", ")]
    assert f"WAITER = '{commands.WAITER}'" in SOURCES["records"]
    for name in ("BATCH", "LEVEL", "DOUBLINGS"):
        assert int(constants[name]) == getattr(records, name)


@pytest.mark.parametrize("label", ["app.task", "a|b\n~", ""])
def test_python_reads_the_slots_that_lua_writes_and_writes_them_alike(redis_store, label):
    reply = redis_store.acquire("h", label=label, request_id="rid", slot_exp_ms=9000)
    redis_store.acquire("i:0")
    redis_store.release("h", reply.token, request_id="starter", reserve_for_me=True)
    redis_store.acquire("h2", limit=2, label=label, request_id="rid", slot_exp_ms=9000)

    fields = redis_store.client.hgetall(SCHEMA.pool(POOL).state)
    written = {key.decode()[5:]: value.decode() for key, value in fields.items() if key.startswith(b"slot:")}

    assert {holder: SlotRecord.decoded(record).encoded() for holder, record in written.items()} == written
    now = redis_store.now
    assert SlotRecord.decoded(written["h2"])[1:] == ("rid", "", now + 9_000_000, now, label)
    assert SlotRecord.decoded(written["i:0"])[1:] == ("", "starter", 0, now, "")


def test_python_reads_the_tickets_that_lua_writes_and_writes_them_alike(redis_store):
    token = redis_store.acquire("a").token
    redis_store.acquire("b", task_id="any|id\n", priority=255)
    redis_store.wait("w")
    redis_store.release("a", token)
    redis_store.later(11)
    redis_store.configure(0)

    fields = redis_store.client.hgetall(SCHEMA.pool(POOL).tickets)
    written = {key.decode()[7:]: value.decode() for key, value in fields.items() if key.startswith(b"ticket:")}

    assert {holder: TicketRecord.decoded(record).encoded() for holder, record in written.items()} == written
    b = TicketRecord.decoded(written["b"])
    assert (b.kind, b.priority, b.returned, b.unused, b.task_id) == ("task/test", 255, 1, 1, "any|id\n")
    assert (b.deaths, b.unknown_for, b.unknown_at) == (0, 0, 0)
    redis_store.configure(None)


def test_all_keys_of_a_pool_and_its_indexes_are_in_one_cluster_slot():
    for schema in (SCHEMA, Schema("t", "cluster")):
        keys = PoolKeys(*schema.pool("any {name}"))
        tags = {re.search(r"\{(.*?)\}", key)[1] for key in keys}  # type: ignore[index]  # each has a tag

        assert len(tags) == 1
        assert (keys.waiting, keys.leased, keys.tasks) in schema.indexes()


def test_commands_about_all_pools_are_one_call_on_a_single_server():
    for command in (key_commands.Pools(), key_commands.Locate(("a", "b"))):
        assert len(calls_of(command, SCHEMA)) == 1
    assert len(calls_of(key_commands.Due(), SCHEMA)) == 2  # with the server's time


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
    assert script("size").text == scripts.included("size", SOURCES)
    assert "include" not in re.sub("-- .*", "", script("acquire").text)
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
    [({"first_delivery": True}, []), ({"envelope": b"m", "park": True, "can_start_heirs": True}, ["get"])],
    ids=["function", "task"],
)
def test_a_slot_where_nobody_waits_costs_so_many_commands(redis_store, message, more):
    def executed():
        found = redis_store.client.info("commandstats")
        calls = Counter({name.removeprefix("cmdstat_"): found[name]["calls"] for name in found})
        return Counter({name: calls[name] for name in calls if name not in ("info", "evalsha")})

    redis_store.release("first", redis_store.plain("first").token)  # connects, loads, gives the keys their TTLs
    before = executed()

    token = redis_store.plain("h:0", **message).token
    acquired = executed()
    redis_store.release("h:0", token)

    assert acquired - before == Counter(["hmget", "zcard", "hset", "zadd", "zadd", "pexpireat", "pexpire", *more])
    assert executed() - acquired == Counter(["hmget", "zcard", "zrem", "zrem", "hdel", "set"])
