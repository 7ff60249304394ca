"""The protocol's promises hold in every state of small worlds, and each broken rule breaks one of them."""

import os
import random

import pytest

from tests.protocol_model.broken_rules import BROKEN, AnyStarter, KeptRank
from tests.protocol_model.explore import exhaust, walk
from tests.protocol_model.pool import Pool
from tests.protocol_model.world import FAULTS, World

FULL = bool(os.getenv("CACHIFY_CHAOS"))
# Tasks, limit, how many faults, of which kinds (none named: of all).
SECONDS = [("L", 1, 2), ("LL", 1, 1), ("LE", 1, 1), ("LW", 1, 1), ("WW", 1, 2), ("LF", 1, 1), ("LLW", 1, 0)]
MINUTES = [
    *[(tasks, 1, 2) for tasks in ("LL", "LE", "EE", "LN", "LF", "EF", "LW", "WW", "EW")],
    ("LL", 2, 2),
    *[(tasks, 1, 1) for tasks in ("LLL", "LLE", "EEL", "LLN", "LLF", "LLW", "LWW", "WWF")],
    ("LLL", 2, 1),
    ("LLW", 2, 1),
]
BIG = [
    ("LLLEEENF", 6, FAULTS, 3),
    ("LLLLLL", 5, FAULTS, 3),
    ("EEEEE", 5),
    ("LELENNFF" * 2, 9, FAULTS, 4),
    ("LWLWEWFW", 6, FAULTS, 3),
]
WALKS = 4000 if FULL else 20


@pytest.mark.parametrize(("tasks", "limit", "faults"), SECONDS, ids=str)
def test_all_promises_hold_in_every_state_of_a_small_world(tasks, limit, faults):
    states, steps = exhaust(World(Pool(limit), tasks, faults))

    assert steps >= states > 20


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not FULL, reason="minutes; `make chaos` runs it")
@pytest.mark.parametrize(("tasks", "limit", "faults"), MINUTES, ids=str)
def test_all_promises_hold_in_every_state_of_a_bigger_world(tasks, limit, faults):
    states, steps = exhaust(World(Pool(limit), tasks, faults))

    assert steps >= states > 1000


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("world", BIG, ids=lambda world: world[0])
def test_all_promises_hold_on_random_ways_through_big_worlds(world):
    dice = random.Random(world[0])
    tasks, *rest = world

    steps = sum(walk(World(Pool(dice.randint(1, 3)), tasks, *rest), dice) for _ in range(WALKS))

    assert steps > WALKS * len(tasks)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.rule.__name__)
def test_a_broken_rule_breaks_a_promise(broken):
    with pytest.raises(AssertionError, match="=> "):
        exhaust(World(broken.rule(1), broken.tasks, 1, broken.faults))


@pytest.mark.parametrize(("rule", "next_heir"), [(Pool, "next"), (KeptRank, "poison")])
def test_a_task_that_nobody_can_start_does_not_block_the_others(rule, next_heir):
    pool = rule(1)
    for number, holder in enumerate(("first", "poison", "next")):
        pool.acquire(holder, number)
    pool.release("first", 1)

    heirs = []
    for _ in range(2):
        pool.slots["poison"] = pool.slots["poison"]._replace(expired=True)
        heirs += [heir for heir, _token in pool.sweep().heirs]

    assert heirs == ["poison", next_heir]


@pytest.mark.parametrize(("rule", "status"), [(Pool, "dropped"), (AnyStarter, "granted")])
def test_only_its_starter_starts_a_reserved_slot(rule, status):
    pool = rule(1)
    token = pool.acquire("a", "a").token
    pool.acquire("b", "b")
    pool.release("a", token, request_id="a", reserve_for_me=True)

    assert pool.start_reserved("b", "hint", starter="another").status == status


def test_an_unused_reservation_makes_the_next_one_twice_as_long_three_times_at_most():
    pool, lives = Pool(1), []
    token = pool.acquire("a", 1).token
    pool.acquire("b", 2)
    pool.release("a", token)

    for _ in range(5):
        lives.append(pool.slots["b"].life)
        pool.slots["b"] = pool.slots["b"]._replace(expired=True)
        pool.sweep()

    assert lives == [1, 2, 4, 8, 8]
