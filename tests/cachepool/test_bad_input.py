"""An invalid argument is refused when it is given, by an error that names it, its value and what is valid."""

import pytest

from cachify_tasks.cachepool import AsyncCachePool, AsyncCacheWrapper, CachePool, make_wrapper


@pytest.mark.parametrize("size", [1.5, "8", None, True, [1]])
def test_a_pool_size_of_a_wrong_type_is_refused(size):
    with pytest.raises(TypeError, match="pool_size must be an int, not ") as raised:
        CachePool(list, pool_size=size)

    assert repr(size) in str(raised.value)


@pytest.mark.parametrize(
    ("option", "value", "valid"),
    [
        ("generator_args", 5, "a list or None"),
        ("generator_args", 0, "a list or None"),
        ("generator_args", "text", "a list or None"),
        ("generator_args", b"", "a list or None"),
        ("generator_argkw", 0, "a dict or None"),
        ("generator_argkw", 5, "a dict or None"),
        ("close_callback", 5, "a function"),
        ("validator", "x", "a function"),
        ("lifo", 1, "True or False"),
        ("max_idle", "1", r"seconds \(a number or a timedelta\)"),
        ("max_idle", True, r"seconds \(a number or a timedelta\)"),
        ("max_idle", 0, "more than 0 seconds"),
        ("max_idle", float("nan"), "more than 0 seconds"),
        ("max_idle", float("inf"), "more than 0 seconds"),
    ],
)
def test_an_invalid_value_is_refused_and_named(option, value, valid):
    for kind in (CachePool, AsyncCachePool):
        with pytest.raises((TypeError, ValueError), match=f"{option} must be {valid}, not {value!r}"):
            kind(list, **{option: value})


def test_a_wrapper_refuses_a_wrong_pool_or_decider():
    with pytest.raises(TypeError, match="pool must be a CachePool, not 5"):
        make_wrapper(5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="pool must be an AsyncCachePool, not <CachePool"):
        AsyncCacheWrapper(CachePool(list))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="reuse_decider must be a function, not 5"):
        make_wrapper(CachePool(list), 5)  # type: ignore[call-overload]
