"""What cannot be used is refused at once, by an error that names it: of `pool`, `pooled`, `cached` and the settings."""

import sys

import pytest

from cachify_tasks import CachedFallback, CachifySettingError, Park, cached, init_cachify, pool, pooled, testing
from cachify_tasks.testing.server import EmbeddedServer

LONE = "\ud800"  # half of a surrogate pair: no text in UTF-8 has it
SURROGATE = r"'.*\\ud800.*'.*lone surrogate"


@pytest.mark.parametrize("size", [sys.maxsize + 1, 10**400])
@pytest.mark.parametrize("make", [pool, pooled, init_cachify(is_global=False).pool])
def test_a_max_size_beyond_the_bound_is_refused_and_the_bound_is_named(make, size):
    message = rf"max_size must be an int from 1 to 9,223,372,036,854,775,807, not {size} \(pool 'p'\)"

    with pytest.raises(ValueError, match=message):
        make("p", max_size=size)


def test_a_number_too_long_to_be_shown_is_refused_by_name_too():
    with pytest.raises(ValueError, match=r"max_size .* not an int of 33220 bits"):
        pool("p", max_size=10**10_000)


def test_a_queue_length_beyond_the_bound_is_refused():
    with pytest.raises(ValueError, match=r"max_parked .* not 9223372036854775808"):
        Park(max_parked=sys.maxsize + 1)


def test_a_pool_of_the_largest_size_works(cachify):
    with pool("p", max_size=sys.maxsize), pool("p", max_size=sys.maxsize) as slot:
        assert slot.key == "p"


@pytest.mark.parametrize("make", [pool, pooled])
def test_a_key_with_a_lone_surrogate_is_refused_when_it_is_given(make):
    with pytest.raises(ValueError, match=f"key must .*{SURROGATE}"):
        make(f"{LONE}", max_size=1)


@pytest.mark.parametrize("key", ["", LONE, 7, None, b"k"])
def test_cached_refuses_a_key_when_it_is_given(key):
    with pytest.raises((TypeError, ValueError), match="key must "):
        cached(key)


def test_an_argument_with_a_lone_surrogate_is_an_error_that_names_key_field_and_value(cachify):
    @pooled("user-{user}", max_size=1)
    def work(user):
        return user

    @cached("user-{user}", ttl=60)
    def kept(user):
        return user

    @pooled("user", max_size=1, on_full=CachedFallback(ttl=60, key="user-{user}"))
    def falling_back(user):
        return user

    for call in (work, work.size, kept, kept.reset, falling_back):
        with pytest.raises(ValueError, match=rf"'user-\{{user\}}'.*'user' is {SURROGATE}"):
            call(f"x{LONE}")
    assert work("ü") == kept("ü") == falling_back("ü") == "ü"


async def test_an_argument_with_a_lone_surrogate_is_an_error_in_an_event_loop_too(cachify):
    @pooled("user-{user}", max_size=1)
    async def work(user):
        return user

    with pytest.raises(ValueError, match=SURROGATE):
        await work(LONE)


@pytest.mark.parametrize("key", ["{user!z}", "{user!z:>4}", "a-{user.name!R}"])
@pytest.mark.parametrize("make", [lambda key: pooled(key, max_size=1), cached])
def test_an_unknown_conversion_in_a_key_is_refused_when_decorating(make, key):
    with pytest.raises(ValueError, match=r"key '.*' cannot be parsed: '![zR]' is no conversion; valid are !s, !r, !a"):
        make(key)(lambda user: user)


@pytest.mark.parametrize("make", [lambda key: pooled(key, max_size=1), cached])
def test_a_field_within_a_format_is_refused_when_decorating(make):
    with pytest.raises(ValueError, match=r"key '\{user:\{width\}\}' .*the format of 'user' has a field of its own"):
        make("{user:{width}}")(lambda user, width: user)


@pytest.mark.parametrize("flag", ["no", 1, 0, None])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("raise_on_full", lambda value: pooled("p", 1, raise_on_full=value)),
        ("raise_on_full", lambda value: pool("p", 1).pooled(raise_on_full=value)),
        ("raise_on_full", lambda value: init_cachify(is_global=False).pooled("p", 1, raise_on_full=value)),
        ("is_global", lambda value: init_cachify(is_global=value)),
        ("settled", lambda value: testing.check(init_cachify(is_global=False), settled=value)),
        ("settled", lambda value: testing.assert_sound(init_cachify(is_global=False), settled=value)),
    ],
)
def test_a_flag_that_is_no_bool_is_refused_by_name(name, make, flag):
    with pytest.raises(TypeError, match=f"{name} must be True or False, not {flag!r}"):
        make(flag)


@pytest.mark.parametrize("pair", [1, len, "ab", (), (len,), (len, len, len), (len, 2), (1, len), False, {len: len}])
@pytest.mark.parametrize("make", [cached, init_cachify(is_global=False).cached])
def test_an_enc_dec_that_is_not_two_functions_is_refused_when_it_is_given(make, pair):
    with pytest.raises(TypeError, match=r"enc_dec must be two functions \(encode, decode\) or None, not "):
        make("k", enc_dec=pair)


@pytest.mark.parametrize("pair", [None, (str, int), [str, int]])
def test_an_enc_dec_of_two_functions_or_none_is_used(cachify, pair):
    @cached("k", ttl=60, enc_dec=pair)
    def number():
        return 7

    assert (number(), number()) == (7, 7)


@pytest.mark.parametrize("thing", [5, "f", staticmethod(len), classmethod(lambda cls: cls)])
def test_cached_refuses_what_is_no_function(thing):
    with pytest.raises(TypeError, match=r"@cached \(key 'k'\) decorates functions, not "):
        cached("k")(thing)


def test_a_prefix_with_a_lone_surrogate_is_refused():
    with pytest.raises(CachifySettingError, match=f"prefix must be .*{SURROGATE}"):
        init_cachify(prefix=LONE, is_global=False)


def test_a_url_with_a_lone_surrogate_is_refused_and_not_shown():
    with pytest.raises(CachifySettingError, match="url must be text that UTF-8 can encode") as caught:
        init_cachify(url=f"redis://:s3cr3t{LONE}@host/0", is_global=False)

    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("value", [1, 0, None, b"folder"])
def test_an_append_only_that_is_neither_a_flag_nor_a_path_is_refused(value):
    with pytest.raises(TypeError, match=f"append_only must be True, False or the path of a folder, not {value!r}"):
        EmbeddedServer(append_only=value)
