"""Visits every state of small worlds, and walks at random through bigger ones.

No path comes back to a state that it has seen: every execution ends.
"""

from __future__ import annotations

import math
import random
from typing import Any, Final

from .world import Copy, World, must

OPEN: Final = -2  # of a state: still on the path


def exhaust(world: World, depth: float = math.inf) -> tuple[int, int]:
    """Visit every state, depth first, to this depth; return how many states and steps there are.

    Raises:
        AssertionError: a promise is broken; the message is the way to it.
    """
    steps, key, story = 0, world.key(), [""]
    path, left = [(world, key, iter(world.moves()))], {key: float(OPEN)}  # left: how far below a state it has looked
    try:
        while path:
            here, key, todo = path[-1]
            for action, fault in todo if len(path) <= depth else ():
                story[len(path) :] = ["FAULT " * fault + describe(here, *action)]
                there = here.after(action, fault)
                steps, next_key = steps + 1, there.key()
                must(next_key == key or left.get(next_key) != OPEN, "livelock: back in a state of this path")
                if next_key != key and left.get(next_key, -1) < depth - len(path):
                    story[-1] = f"{story[-1]:38} {there.pool}" if depth < math.inf else story[-1]
                    left[next_key] = OPEN
                    path.append((there, next_key, iter(there.moves())))
                    break
            else:
                path.pop()
                left[key] = depth - len(path)
    except AssertionError as failure:
        raise AssertionError("\n  ".join([*story[: len(path) + 1], f"=> {failure}"])) from None
    return len(left), steps


def walk(world: World, dice: random.Random) -> int:
    """One way through a world too big to exhaust; return how many steps it took."""
    count = 0
    while moves := world.moves():
        strikes = dice.random() < 0.12 and moves[-1][1]
        world = world.after(*dice.choice([move for move in moves if move[1] == strikes] or moves))
        count += 1
    return count


def describe(world: World, step: str, *names: Any) -> str:
    if step.rstrip("?") in ("call", "ack", "renew", "hint", "requeue", "leave"):
        proc = world.procs[names[0]]
        names = proc.holder, proc.at, "on", proc.worker
    return " ".join([step, *(n.holder + " (hint)" * n.hint if isinstance(n, Copy) else str(n) for n in names)])
