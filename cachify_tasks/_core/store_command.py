"""What all commands that a store takes have in common."""

from __future__ import annotations

from typing import Generic, TypeVar

A_co = TypeVar("A_co", covariant=True)


class StoreCommand(Generic[A_co]):
    """A command whose answer is an `A_co`."""

    __slots__ = ()
