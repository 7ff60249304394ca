"""What is called in place of a function: of the function's own kind, so that it is used as the function is."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

from .._core.flows import Flow, size
from .._core.policy import Policy
from .call_flow import call_flow
from .generators import Steps, unhooked
from .instances import global_runtime
from .policies import remember_policy
from .slot import Slot

if TYPE_CHECKING:
    from .runtime import Runtime

T = TypeVar("T")
Begin: TypeAlias = "Callable[[tuple[object, ...], dict[str, object]], tuple[Runtime, Flow[T]]]"


class SlotContext(AbstractContextManager[Slot, None], AbstractAsyncContextManager[Slot, None], Protocol):
    """Holds a slot while it is entered, by `with` or `async with`."""


SlotContextFor: TypeAlias = Callable[[Policy, tuple[object, ...], dict[str, object]], SlotContext]


def pooled_wrapper(policy: Policy, signature: inspect.Signature, slot_context: SlotContextFor) -> Callable[..., object]:
    """What is called in place of a function in a pool.

    Args:
        slot_context: by policy, args and kwargs of a generator's call, what it enters for its slot.
    """
    remember_policy(policy)
    function = policy.function
    wrapper: Callable[..., object]
    if inspect.isasyncgenfunction(function):
        wrapper = _async_generator(policy, function, slot_context)
    elif inspect.isgeneratorfunction(function):
        wrapper = _generator(policy, function, slot_context)
    else:
        wrapper = flow_function(is_coroutine_function(function), functools.partial(call_flow, policy))
    return dressed(wrapper, function, __signature__=signature, __cachify__=policy, size=size_of(policy))


def flow_function(is_async: bool, begin: Begin[T]) -> Callable[..., object]:
    """A function, or a coroutine function, each of whose calls does the flow that `begin` makes of its arguments."""
    if is_async:

        async def acall(*args: object, **kwargs: object) -> T:
            runtime, flow = begin(args, kwargs)
            return await runtime.arun(flow)

        return acall

    def call(*args: object, **kwargs: object) -> T:
        runtime, flow = begin(args, kwargs)
        return runtime.run(flow)

    return call


def dressed(
    wrapper: Callable[..., object], function: Callable[..., object], **attributes: object
) -> Callable[..., object]:
    """The wrapper with the function's name and docstring, and with these attributes."""
    functools.update_wrapper(wrapper, function)
    vars(wrapper).update(attributes)
    return wrapper


def size_of(policy: Policy) -> Callable[..., object]:
    """`.size` of a function in a pool: a coroutine function, where the function runs in an event loop."""

    def begin(args: tuple[object, ...], kwargs: dict[str, object]) -> tuple[Runtime, Flow[int]]:
        return policy.runtime or global_runtime(), size(policy.key.resolve(args, kwargs))

    function = policy.function
    return flow_function(is_coroutine_function(function) or inspect.isasyncgenfunction(function), begin)


def is_coroutine_function(function: Callable[..., object]) -> bool:
    """Also of an object whose `__call__` is one."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _generator(
    policy: Policy, function: Callable[..., Generator[object, object, object]], slot_context: SlotContextFor
) -> Callable[..., object]:
    def generator(*args: object, **kwargs: object) -> Generator[object, object, object]:
        with slot_context(policy, args, kwargs) as slot:
            return (yield from Steps(function(*args, **kwargs), slot))

    return generator


def _async_generator(
    policy: Policy, function: Callable[..., AsyncGenerator[object, object]], slot_context: SlotContextFor
) -> Callable[..., object]:
    async def generator(*args: object, **kwargs: object) -> AsyncGenerator[object, object]:
        async with slot_context(policy, args, kwargs) as slot:
            items = function(*args, **kwargs)
            step = unhooked(items.__anext__)
            try:
                while True:
                    try:
                        item = await Steps(step.__await__(), slot)
                    except StopAsyncIteration:
                        return
                    try:
                        sent = yield item
                    except GeneratorExit:
                        raise
                    except BaseException as error:  # noqa: BLE001  # the generator decides what to do with it
                        step = items.athrow(error)
                    else:
                        step = items.asend(sent)
            finally:
                await Steps(items.aclose().__await__(), slot)

    return generator
