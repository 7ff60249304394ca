"""The settings: one set of names, checked where they are given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, Final, Literal, TypeAlias

from ._checks import Seconds, count, milliseconds, text
from .errors import CachifySettingError

__all__ = ["UNSET", "Seconds", "Settings", "Unset", "hide_password"]


class Unset(Enum):
    """The type of `UNSET`, which tells "not given" from None."""

    UNSET = "UNSET"

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


UNSET: Final = Unset.UNSET
StoreErrorChoice: TypeAlias = Literal["raise", "retry", "run"]
STORE_ERROR_CHOICES: Final = ("raise", "retry", "run")


def hide_password(url: str) -> str:
    """The URL as it may be shown: with stars for all that may be a user, a password or an option.

    Nothing is parsed: in a URL whose password holds a `/` or a `#` the parts are not where a parser looks for them.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    if "@" in rest:
        rest = f"***@{rest.rpartition('@')[2]}"
    host, question, _ = rest.partition("?")
    return f"{scheme}{separator}{host}{'?***' if question else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `init_cachify(...)` and the `setup(app, ...)` of a task framework's adapter accept.

    Attributes:
        url: where the store is, `redis://`, `rediss://` or `unix://`; None or `memory://`: the memory of this process.
        prefix: put in front of every key in the store; no braces.
        lease_ttl: seconds that a slot lives without being renewed, at least 0.1; a crash frees it after that.
        start_timeout: seconds that a slot stays reserved for a parked task whose turn has come, at least 0.1; if the
            task has not started by then, it is offered again.
        unknown_task_grace: seconds for which workers that consume the queue of a parked task may not know the task,
            before it ends: a deploy may be in progress.
        max_deaths: how often a parked task may kill its process before it ends, under a worker that goes on; at least
            1; None: for ever.
        on_store_error: what a call does while the store is out of reach: "raise", "retry" or "run".
            Not given: "raise" for functions, "retry" for tasks.
        default_on_full: the strategy of tasks whose `pooled` names none: one, a callable, or a name such as "drop". Not
            given: `Park()`.
    """

    url: str | None = field(default=None, repr=False)
    prefix: str = "PYC-"
    lease_ttl: Seconds = 30.0
    start_timeout: Seconds = 10.0
    unknown_task_grace: Seconds = 600.0
    max_deaths: int | None = 3
    on_store_error: StoreErrorChoice | Unset = UNSET
    default_on_full: Any = UNSET

    def __post_init__(self) -> None:
        prefix: object = self.prefix
        if not isinstance(prefix, str) or set("{}") & set(prefix):
            raise CachifySettingError(f"prefix must be text without braces, not {self.prefix!r}")
        try:
            text("prefix", prefix)
            for name, minimum in (("lease_ttl", 100), ("start_timeout", 100), ("unknown_task_grace", 0)):
                milliseconds(name, getattr(self, name), minimum=minimum)
            if self.max_deaths is not None:
                count("max_deaths", self.max_deaths)
        except (TypeError, ValueError) as error:
            raise CachifySettingError(str(error)) from None
        if self.on_store_error not in (UNSET, *STORE_ERROR_CHOICES):
            raise CachifySettingError(
                f"on_store_error must be one of {', '.join(STORE_ERROR_CHOICES)}, not {self.on_store_error!r}"
            )

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(f.name for f in fields(cls))

    @classmethod
    def checked(cls, given: dict[str, Any], *, called: str = "") -> Settings:
        """Settings from a mapping; `called` is put before names in messages ("cachify_").

        Raises:
            CachifySettingError: a name is unknown, or a value cannot be used.
        """
        cls.check_names(given, called=called)
        return cls(**given)

    @classmethod
    def check_names(cls, given: Iterable[str], *, called: str = "") -> None:
        """Refuse a name that is no setting's.

        Raises:
            CachifySettingError: it lists the valid ones.
        """
        unknown = sorted(set(given) - set(cls.names()))
        if unknown:
            valid = ", ".join(called + name for name in cls.names())
            raise CachifySettingError(
                f"unknown setting {', '.join(repr(called + name) for name in unknown)}; valid settings are: {valid}"
            )

    @property
    def lease_ms(self) -> int:
        return milliseconds("lease_ttl", self.lease_ttl)

    @property
    def grace_s(self) -> float:
        return milliseconds("unknown_task_grace", self.unknown_task_grace, minimum=0) / 1000

    @property
    def start_ms(self) -> int:
        return milliseconds("start_timeout", self.start_timeout)
