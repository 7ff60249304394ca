"""What `@pooled` and `@cached` make of functions, for type checkers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar, overload

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class TaskObject(Protocol):
    """What the decorator of a task framework has made of a function. `@pooled` above it returns it as it is."""

    @property
    def original_func(self) -> Callable[..., object]: ...


T = TypeVar("T", bound=TaskObject)


class SyncPoolWrappedF(Protocol[P, R_co]):
    """A function in a pool."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    def size(self, *args: P.args, **kwargs: P.kwargs) -> int:
        """How many slots are held in the pool that this call would use."""


class AsyncPoolWrappedF(Protocol[P, R_co]):
    """A coroutine function in a pool."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...

    def size(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[int]:
        """How many slots are held in the pool that this call would use."""


class WrappedFunctionPool(Protocol):
    """What `@pooled` makes of functions; the types of both kinds."""

    @overload  # what matches several counts as the first one
    def __call__(self, task: T, /) -> T: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncPoolWrappedF[P, R | None]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncPoolWrappedF[P, R | None]: ...


class AlwaysPool(Protocol):
    """As `WrappedFunctionPool`, where no strategy can drop the call."""

    @overload  # as above
    def __call__(self, task: T, /) -> T: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncPoolWrappedF[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncPoolWrappedF[P, R]: ...


class SyncCachedF(Protocol[P, R_co]):
    """A function whose results are kept."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    def reset(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget the result of this call."""


class AsyncCachedF(Protocol[P, R_co]):
    """A coroutine function whose results are kept."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...

    def reset(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[None]:
        """Forget the result of this call."""


class CachedFunction(Protocol):
    """What `@cached` makes of functions."""

    @overload  # as above
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncCachedF[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncCachedF[P, R]: ...
