"""What is called in place of a function in a pool: of its own kind, so that it is used as the function is."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, cast

from .._core.commands import Size
from .._core.policy import Policy
from .call_flow import call_flow
from .generators import Steps, unhooked
from .runtime import global_runtime


def wrapped(policy: Policy, signature: inspect.Signature, slot_of: Callable[..., Any]) -> Any:
    """What is called in place of the function.

    Args:
        slot_of: by policy, args and kwargs of a generator's call, what it enters for its slot.
    """
    function = policy.function
    wrapper: Any
    if inspect.isasyncgenfunction(function):

        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            async with slot_of(policy, args, kwargs) as slot:
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

    elif inspect.isgeneratorfunction(function):

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with slot_of(policy, args, kwargs) as slot:
                return (yield from Steps(function(*args, **kwargs), slot))

    elif _is_coroutine_function(function):

        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            runtime, flow = call_flow(policy, args, kwargs)
            return await runtime.arun(flow)

    else:

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            runtime, flow = call_flow(policy, args, kwargs)
            return runtime.run(flow)

    functools.update_wrapper(wrapper, function)
    wrapper.__signature__ = signature
    wrapper.__cachify__ = policy
    wrapper.size = size_of(policy)
    return wrapper


def size_of(policy: Policy) -> Callable[..., Any]:
    def size(*args: Any, **kwargs: Any) -> int:
        runtime = policy.runtime or global_runtime()
        return cast("int", runtime.store.execute(Size(policy.key.resolve(args, kwargs))))

    async def asize(*args: Any, **kwargs: Any) -> int:
        runtime = policy.runtime or global_runtime()
        return cast("int", await runtime.store.aexecute(Size(policy.key.resolve(args, kwargs))))

    asynchronous = _is_coroutine_function(policy.function) or inspect.isasyncgenfunction(policy.function)
    return asize if asynchronous else size


def _is_coroutine_function(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
