"""Each rule of the protocol, broken on purpose, fails a test of the suite: in Lua and in memory."""

import sys
import types
from importlib.resources import files
from typing import Any

import pytest

from cachify_tasks._store import memory_store as memory
from cachify_tasks._store import redis_store, scripts
from tests.store import (
    test_acquire,
    test_due,
    test_find,
    test_leases,
    test_put_back,
    test_queue,
    test_release,
    test_stores,
    test_waiters,
)
from tests.store.mutants import Mutant, queues, slots
from tests.support.mutants import named, replaced
from tests.support.stores import CHANNELS, opened

MUTANTS = slots.MUTANTS + queues.MUTANTS
SUITE = (
    test_acquire,
    test_due,
    test_find,
    test_leases,
    test_put_back,
    test_queue,
    test_release,
    test_stores,
    test_waiters,
)
EARLIEST = ("if self.now > pool.earliest:", "if True:")  # the short cut would hide a mutant of what it cuts short


def broken_script(mutant: Mutant) -> object:
    """`scripts.script`, with the mutant's text."""
    folder = files("cachify_tasks").joinpath("_store", "_lua")
    sources = {path.name.removesuffix(".lua"): path.read_text("utf-8") for path in folder.iterdir()}
    file, text, broken = mutant.lua
    sources[file] = replaced(f"{file}.lua", sources[file], text, broken)

    def script(name: str) -> scripts.Script:
        # No script has this digest: its text is sent.
        return scripts.Script(scripts.included(name, sources), "0" * 40)

    return script


def broken_memory(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> type[memory.MemoryStore]:
    """MemoryStore, with the mutant's text."""
    source = files("cachify_tasks").joinpath("_store", "memory_scripts.py").read_text("utf-8")
    source = replaced("memory_scripts.py", replaced("memory_scripts.py", source, *EARLIEST), *mutant.python)
    module("memory_scripts", source, monkeypatch)
    source = files("cachify_tasks").joinpath("_store", "memory_store.py").read_text("utf-8")
    made: type[memory.MemoryStore] = module("memory_store", source, monkeypatch).MemoryStore
    return made


def module(name: str, source: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stands for the module of that name in `_store` until the test ends."""
    made = types.ModuleType(f"cachify_tasks._store.{name}")
    made.__package__ = "cachify_tasks._store"
    monkeypatch.setitem(sys.modules, made.__name__, made)
    exec(compile(source, "mutant", "exec", dont_inherit=True), vars(made))
    return made


@pytest.mark.leaks("keys", reason="a broken script may leave anything")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_a_broken_rule_in_lua_fails_a_test(mutant, redis_url, monkeypatch):
    killer = named(mutant.killer, SUITE)
    with opened("redis-sync", redis_url) as store:
        store.listen(*CHANNELS)
        killer(store)
        store.forget()
        monkeypatch.setattr(redis_store, "script", broken_script(mutant))

        with pytest.raises(AssertionError, match="assert"):
            killer(store)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_a_broken_rule_in_memory_fails_a_test(mutant, monkeypatch):
    killer = named(mutant.killer, SUITE)
    with opened("memory-sync") as whole:
        whole.listen(*CHANNELS)
        killer(whole)

    with opened("memory-sync", memory=broken_memory(mutant, monkeypatch)) as broken:
        broken.listen(*CHANNELS)

        with pytest.raises(AssertionError, match="assert"):
            killer(broken)
