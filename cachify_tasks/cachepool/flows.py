"""What both kinds of pool do step by step: a flow yields calls of the user's functions and gets their results."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, TypeVar

from .records import Record

T = TypeVar("T")
Flow = Generator[Callable[[], Any], Any, T]


def drive(flow: Flow[T]) -> T:
    """Do a flow here and now; the answer is what it returns."""
    result: Any = None
    error: BaseException | None = None
    while True:
        try:
            step = flow.send(result) if error is None else flow.throw(error)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        finally:
            result = error = None
        try:
            result = step()
        except BaseException as raised:  # noqa: BLE001  # the flow decides what to do with it
            error = raised


def emptying(take: Callable[[], Record | None], end: Callable[[Record], Callable[[], Any]]) -> Flow[int]:
    """Close all that `take` gives, also when closing one fails; how many they were."""
    closed, errors = 0, []
    while (record := take()) is not None:
        closed += 1
        try:
            yield end(record)
        except Exception as error:  # noqa: BLE001  # raised in the end
            errors.append(error)
    if errors:
        raise ExceptionGroup(f"close_callback failed for {len(errors)} of {closed} elements", errors)
    return closed


def failed(pool: Any, element: Any, decider: Callable[..., Any] | None, error: tuple[Any, Any, Any]) -> Flow[None]:
    """The block that had the element raised: put it back or close it, as the decider says.

    What is raised here becomes a note on the block's own error, which goes on. A decider that is interrupted closes.
    """
    reuse = False
    try:
        if decider is not None:
            answer = yield partial(decider, *error)
            reuse = bool(answer)
    except Exception as raised:  # noqa: BLE001
        error[1].add_note(f"reuse_decider failed, so the element was closed: {raised!r}")
    finally:
        try:
            yield partial(pool.put if reuse else pool.close, element)
        except Exception as raised:  # noqa: BLE001
            error[1].add_note(f"the element could not be {'put back' if reuse else 'closed'}: {raised!r}")
