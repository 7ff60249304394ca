"""The counters of a pool, as a dict that always shows the current numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NoReturn

from .records import Records

NAMES: Final = ("new", "get", "put")


def _current(method: str) -> Any:
    """The method of dict, called on the numbers of this moment."""
    function = getattr(dict, method)

    def call(self: Stat, *args: object) -> object:
        return function(self.copy(), *args)

    return call


class Stat(dict[str, int]):
    """How many elements were made, lent and put back; a new one counts as lent, too. Read only.

    It is a dict for callers that need one, such as json. The items that it holds as a dict are never read.
    """

    __slots__ = ("_records",)
    __hash__ = None

    def __init__(self, records: Records) -> None:
        super().__init__(dict.fromkeys(NAMES, 0))
        self._records = records

    def copy(self) -> dict[str, int]:
        """The numbers of this moment."""
        return dict(zip(NAMES, self._records.counts(), strict=True))

    def __iter__(self) -> Iterator[str]:  # an own `__iter__` makes `dict(stat)` call `__getitem__`
        return iter(NAMES)

    def __reduce__(self) -> Any:
        return dict, (self.copy(),)  # a copy or a pickle has the numbers of this moment

    def _refuse(self, *args: object, **kwargs: object) -> NoReturn:
        raise TypeError("the pool counts its stat: it can only be read")

    __getitem__ = _current("__getitem__")
    __eq__ = _current("__eq__")
    __ne__ = _current("__ne__")
    __or__ = _current("__or__")
    __ror__ = _current("__ror__")
    __repr__ = _current("__repr__")
    get = _current("get")
    items = _current("items")
    values = _current("values")
    __setitem__ = __delitem__ = __ior__ = update = pop = popitem = clear = setdefault = _refuse
