"""What a pool shows of itself: live, whenever it is looked at."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from .records import Record, Records

NAMES: Final = ("new", "get", "put")


class Stat(dict[str, int]):
    """How many elements were made, lent and taken back; a new one counts as lent, too. Read only.

    A dict, for who asks for one, as json does; what it holds as a dict is never read.
    """

    __slots__ = ("_records",)
    __hash__ = None

    def __init__(self, records: Records) -> None:
        super().__init__(dict.fromkeys(NAMES, 0))
        self._records = records

    def copy(self) -> dict[str, int]:
        """The numbers of this moment."""
        return dict(zip(NAMES, self._records._counts(), strict=True))

    def __getitem__(self, name: str) -> int:
        return self.copy()[name]

    def __iter__(self) -> Iterator[str]:  # without it dict(stat) would not ask for the items
        return iter(NAMES)

    def get(self, name: str, default: Any = None) -> Any:
        return self.copy().get(name, default)

    def items(self) -> Any:
        return self.copy().items()

    def values(self) -> Any:
        return self.copy().values()

    def __eq__(self, other: object) -> bool:
        return self.copy() == other

    def __ne__(self, other: object) -> bool:
        return self.copy() != other

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    def __repr__(self) -> str:
        return repr(self.copy())

    def __reduce__(self) -> Any:
        return dict, (self.copy(),)  # a copy or a pickle is of this moment

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("the pool counts its stat: it can only be read")

    __setitem__ = __delitem__ = __ior__ = update = pop = popitem = clear = setdefault = _refuse


class Idle:
    """The elements that wait to be lent."""

    __slots__ = ("_idle",)

    def __init__(self, idle: deque[Record]) -> None:
        self._idle = idle

    def qsize(self) -> int:
        """How many they are."""
        return len(self._idle)
