"""Keys with fields: "tenant-{tenant}" and the arguments of a call make the key of that call's pool."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from string import Formatter
from typing import Any, Final, NamedTuple

from .._checks import has_lone_surrogate
from .._checks import text as checked_text

_FORMATTER: Final = Formatter()
_CONVERSIONS: Final = ("s", "r", "a")
_VAR: Final = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD


class _Field(NamedTuple):
    literal: str  # the text before it
    name: str  # of the argument; digits: a place in *args
    path: tuple[tuple[bool, str | int], ...]  # what follows: (is an attribute, name), ...
    conversion: str | None
    spec: str


class KeyTemplate:
    """A key whose fields are filled from a function's arguments, however they are passed.

    `{a}` takes an argument or its default, `{a.b}` and `{a[b]}` an attribute or item of it (`.b` reads a mapping's item
    too, so that raw JSON and the model made of it give one key), `{}` and `{0}` the function's `*args`.

    Raises:
        TypeError, ValueError: the key is not text, is empty, cannot be parsed or sent to the store, or names no
            argument of the function.
    """

    __slots__ = ("_defaults", "_fields", "_named", "_places", "_signature", "_tail", "_var_names", "text")

    def __init__(self, text: str, signature: inspect.Signature) -> None:
        check_key(text)
        self.text, self._signature = text, signature
        self._fields, self._tail = _parsed(text)
        parameters = list(signature.parameters.values())
        self._var_names = tuple(next((p.name for p in parameters if p.kind is kind), None) for kind in _VAR)
        self._places = {p.name: place for place, p in enumerate(parameters) if p.kind not in (p.KEYWORD_ONLY, *_VAR)}
        self._named = {p.name for p in parameters if p.kind not in (p.POSITIONAL_ONLY, *_VAR)}
        self._defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        positional, keywords = self._var_names
        for field in self._fields:
            known = positional if field.name.isdigit() else keywords
            if not known and field.name not in self._named | self._places.keys():
                raise self._mismatch()

    def _mismatch(self) -> ValueError:
        return ValueError(
            f"Arguments in a key({self.text}) do not match function signature params({self._signature}); valid names "
            f"are: {', '.join(self._signature.parameters) or 'none'}"
        )

    @property
    def takes_arguments(self) -> bool:
        """Do the arguments of a call matter?"""
        return bool(self._fields)

    def resolve(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> str:
        """The key of one call.

        Raises:
            TypeError: the arguments do not fit the function.
            ValueError: a field finds no value, or one that cannot be sent to the store: it has a lone surrogate.
        """
        if not self._fields:
            return self._tail
        parts = []
        bound = None
        for field in self._fields:
            name = field.name
            place = self._places.get(name, -1)
            if name in kwargs and name in self._named:
                value = kwargs[name]
            elif 0 <= place < len(args):
                value = args[place]
            elif name in self._defaults:
                value = self._defaults[name]
            else:
                bound = bound or self._signature.bind(*args, **kwargs)
                value = self._variadic(bound, name)
            parts.append(field.literal)
            parts.append(self._shown(field, value))
        parts.append(self._tail)
        key = "".join(parts)
        if not key.isascii() and has_lone_surrogate(key):
            raise self._unsendable(parts)
        return key

    def fits(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> bool:
        """Could the function be called with these arguments?"""
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError:
            return False
        return True

    def may_make(self, key: str) -> bool:
        """Can some call have this key?"""
        pattern = "".join(f"{re.escape(field.literal)}.*" for field in self._fields) + re.escape(self._tail)
        return re.fullmatch(pattern, key, re.DOTALL) is not None

    def _variadic(self, bound: inspect.BoundArguments, name: str) -> object:
        positional, keywords = self._var_names
        try:
            if name.isdigit():
                return bound.arguments.get(positional or "", ())[int(name)]
            return bound.arguments.get(keywords or "", {})[name]
        except (IndexError, KeyError):
            raise self._mismatch() from None

    def _unsendable(self, parts: list[str]) -> ValueError:
        name, value = next(
            (field.name, value)
            for field, value in zip(self._fields, parts[1::2], strict=False)
            if has_lone_surrogate(value)
        )
        return ValueError(
            f"the key {self.text!r} cannot be sent to the store: {name!r} is {value!r}: it has a lone surrogate"
        )

    def _shown(self, field: _Field, value: Any) -> str:
        try:
            for is_attribute, name in field.path:
                if is_attribute and not isinstance(value, Mapping):
                    value = getattr(value, str(name))
                else:
                    value = value[name]
        except (AttributeError, LookupError, TypeError) as error:
            raise ValueError(
                f"the key {self.text!r} finds no value for {field.name!r}: {type(error).__name__}: {error}"
            ) from None
        if field.conversion:
            value = _FORMATTER.convert_field(value, field.conversion)
        return format(value, field.spec)


def check_key(key: object) -> str:
    """The key, if it can name something.

    Raises:
        TypeError: it is not text.
        ValueError: it is empty, or has a lone surrogate.
    """
    checked = checked_text("key", key)
    if not checked:
        raise ValueError("key must not be empty, not ''")
    return checked


def _parsed(text: str) -> tuple[tuple[_Field, ...], str]:
    fields, literal, automatic = [], "", 0
    try:
        for before, name, spec, conversion in _FORMATTER.parse(text):
            literal += before
            if name is None:
                continue
            first, path = _split(name)
            _check_field(first, conversion, spec or "")
            if first == "":
                first, automatic = str(automatic), automatic + 1
            fields.append(_Field(literal, first, path, conversion, spec or ""))
            literal = ""
    except ValueError as error:
        raise ValueError(f"key {text!r} cannot be parsed: {error}") from None
    return tuple(fields), literal


def _check_field(name: str, conversion: str | None, spec: str) -> None:
    """Refuse now what would make each call an error."""
    if conversion and conversion not in _CONVERSIONS:
        valid = ", ".join(f"!{one}" for one in _CONVERSIONS)
        raise ValueError(f"'!{conversion}' is no conversion; valid are {valid}")
    if "{" in spec:
        raise ValueError(f"the format of {name!r} has a field of its own; write the format out")


def _split(name: str) -> tuple[str, tuple[tuple[bool, str | int], ...]]:
    from _string import formatter_field_name_split  # type: ignore[import-not-found]  # as string.Formatter does

    first, rest = formatter_field_name_split(name)
    return str(first), tuple(rest)


def signature_of(function: Callable[..., object]) -> inspect.Signature:
    """The function's signature; of a callable that has none, one that takes anything."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return inspect.Signature([inspect.Parameter("args", _VAR[0]), inspect.Parameter("kwargs", _VAR[1])])
