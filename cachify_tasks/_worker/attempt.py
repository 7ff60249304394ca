"""Which attempt of a task a delivery belongs to, and the header that travels with its message."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final, Self


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a task. All deliveries of it share one holder, so that no two of them run at once.

    Attributes:
        task_id: the framework's id of the task.
        retries: a retry keeps the id and counts up this number.
        nesting: a task that replaces itself keeps id and retries, and counts up this number.
        handovers: how often the attempt was sent to the broker again after a hand-over, by `then` of a `max_age`. Its
            new message may arrive before the slot of that turn is free, and must not be taken for a second delivery.
        sending: tells two messages that a program sent under one id: the same for all deliveries of one message, and
            for what is sent again of it. Empty: the adapter cannot tell.
    """

    task_id: str
    retries: int = 0
    nesting: int = 0
    handovers: int = 0
    sending: str = ""

    @property
    def name(self) -> str:
        """The attempt without what a header says of it: what a header is compared with."""
        return f"{self.task_id}:{self.retries}" + (f".{self.nesting}" if self.nesting else "")

    @property
    def holder(self) -> str:
        """The name under which the attempt holds a slot or waits in a queue."""
        sending = f"#{self.sending}" if self.sending else ""
        return f"{self.name}{sending}~{self.handovers}" if self.handovers else f"{self.name}{sending}"


_HOLDER: Final = re.compile(r"(.*):\d+(?:\.\d+)?(?:#[^#~]*)?(?:~\d+)?", re.DOTALL)


def task_id_of(holder: str) -> str:
    """The id of the task whose attempt this is: for a message that cannot be read."""
    found = _HOLDER.fullmatch(holder)
    return found[1] if found else holder


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """Marks a message that only tells a worker to start a parked task. The store has the task's own message.

    Attributes:
        pool: where the task is parked; its key may have changed since.
        starter: who alone may start it (`Release.reserve_for_me`); empty: anybody.
        waited_ms: how long it had been parked when the hint was sent.
        token: of the slot that was reserved for it then.
        ran: it has begun to run before.
    """

    pool: str
    starter: str = ""
    waited_ms: int = 0
    token: int = 0
    ran: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What we know of an attempt beyond its framework's message; sent along as one text header.

    Attributes:
        deferrals: how often the attempt was sent again because its pool was full.
        handovers, sending: see `Attempt`.
        is_copy: the broker may have delivered another message of this attempt before.
        hint: the message is only a hint.
    """

    deferrals: int = 0
    handovers: int = 0
    sending: str = ""
    is_copy: bool = False
    hint: Hint | None = None

    def encode(self, attempt: Attempt) -> str:
        """The header as text. It names the attempt: a retry that inherits the header does not match it."""
        value: dict[str, object] = {"attempt": attempt.name, "deferrals": self.deferrals, "handovers": self.handovers}
        if self.sending:
            value["sending"] = self.sending
        if self.is_copy:
            value["copy"] = True
        if self.hint is not None:
            hint = self.hint
            value["hint"] = [hint.pool, hint.starter, hint.waited_ms, hint.token, hint.ran]
        return json.dumps(value)

    @classmethod
    def decode(cls, text: object, attempt: Attempt) -> Self:
        """The header of a message; an empty one if the text is none, or belongs to another attempt."""
        value = _loads(text)
        match value:
            case {"attempt": name, "deferrals": int(deferrals), "handovers": int(handovers)} if name == attempt.name:
                return cls(
                    deferrals=deferrals, handovers=handovers, sending=str(value.get("sending", "")),
                    is_copy="copy" in value, hint=_hint(value),
                )  # fmt: skip
        return cls()


def hint_of(text: object) -> Hint | None:
    """The hint that a message with this header is; None: it is a task's own message."""
    return _hint(_loads(text))


def _loads(text: object) -> dict[str, object]:
    if isinstance(text, str | bytes):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):  # nested too deep: forged
            return {}
        if isinstance(value, dict):
            return value
    return {}


def _hint(value: dict[str, object]) -> Hint | None:
    match value.get("hint"):
        case [str(pool), str(starter), int(waited_ms), int(token), bool(ran)]:
            return Hint(pool=pool, starter=starter, waited_ms=waited_ms, token=token, ran=ran)
    return None
