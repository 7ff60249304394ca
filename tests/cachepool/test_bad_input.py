"""What a pool cannot take is refused when it is given, by an error that names it and what is valid."""

import pytest

from cachify_tasks.cachepool import AsyncCachePool, AsyncCacheWrapper, CachePool, make_wrapper


@pytest.mark.parametrize("size", [1.5, "8", None, True, [1]])
def test_a_pool_size_of_a_wrong_type_is_refused(size):
    with pytest.raises(TypeError, match="give an int, the most idle elements; 0 or less is no limit") as raised:
        CachePool(list, pool_size=size)

    assert repr(size) in str(raised.value)


@pytest.mark.parametrize(
    ("option", "value", "valid"),
    [
        ("generator_args", 5, "give a list"),
        ("generator_argkw", 5, "give a dict"),
        ("close_callback", 5, "give a function"),
        ("validator", "x", "give a function"),
        ("lifo", 1, "give True or False"),
        ("max_idle", "1", "give seconds"),
        ("max_idle", True, "give seconds"),
        ("max_idle", 0, "more than 0 seconds"),
        ("max_idle", float("nan"), "more than 0 seconds"),
        ("max_idle", float("inf"), "more than 0 seconds"),
    ],
)
def test_a_value_that_cannot_be_taken_is_refused_and_named(option, value, valid):
    for kind in (CachePool, AsyncCachePool):
        with pytest.raises((TypeError, ValueError), match=f"{option}={value!r}: .*{valid}"):
            kind(list, **{option: value})


def test_a_wrapper_refuses_what_is_no_pool_and_no_decider():
    with pytest.raises(TypeError, match="pool=5: give a CachePool"):
        make_wrapper(5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="give an AsyncCachePool"):
        AsyncCacheWrapper(CachePool(list))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="reuse_decider=5: give a function"):
        make_wrapper(CachePool(list), 5)  # type: ignore[call-overload]
