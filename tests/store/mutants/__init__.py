"""Rules of the protocol, broken on purpose: in Lua and in memory."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """`lua` and `python` are (text, broken text); `lua` begins with the name of its file."""

    rule: str
    lua: tuple[str, str, str]
    python: tuple[str, str]
    killer: str
