"""Keys with fields: every way to pass an argument gives one key; what cannot give one is refused."""

import inspect
from dataclasses import dataclass

import pytest

from cachify_tasks import pool, pooled
from cachify_tasks._core.key_template import KeyTemplate, check_key, signature_of


def key_of(text, function, *args, **kwargs):
    return KeyTemplate(text, inspect.signature(function)).resolve(args, kwargs)


@dataclass
class User:
    id: int
    tags: tuple[str, ...] = ("x",)


def simple(a, b=2): ...


def variadic(a, *rest, key="k", **options): ...


def positional_only(a, /, **options): ...


@pytest.mark.parametrize(
    ("args", "kwargs"), [((1,), {}), ((1, 2), {}), ((), {"a": 1}), ((1,), {"b": 2}), ((), {"b": 2, "a": 1})]
)
def test_positional_keyword_and_default_calls_give_one_key(args, kwargs):
    assert key_of("k-{a}-{b}", simple, *args, **kwargs) == "k-1-2"


@pytest.mark.parametrize(
    ("text", "function", "args", "kwargs", "key"),
    [
        ("plain", simple, (1,), {}, "plain"),
        ("{{a}}", simple, (1,), {}, "{a}"),
        ("{a}{a}", simple, ("x",), {}, "xx"),
        ("{a!r}", simple, ("x",), {}, "'x'"),
        ("{a:>4}", simple, (7,), {}, "   7"),
        ("{a.id}", simple, (User(5),), {}, "5"),
        ("{a[id]}", simple, ({"id": 5},), {}, "5"),
        ("{a.id}", simple, ({"id": 5},), {}, "5"),
        ("{a.tags[0]}", simple, (User(5),), {}, "x"),
        ("{a[0]}", simple, ([9],), {}, "9"),
        ("{a}", simple, (None,), {}, "None"),
        ("{}", variadic, (1, 2), {}, "2"),
        ("{0}-{1}", variadic, (1, 2, 3), {}, "2-3"),
        ("{}-{}", variadic, (1, 2, 3), {}, "2-3"),
        ("{key}", variadic, (1,), {}, "k"),
        ("{key}", variadic, (1,), {"key": "q"}, "q"),
        ("{extra}", variadic, (1,), {"extra": "e"}, "e"),
        ("{a}", positional_only, (1,), {"a": 2}, "1"),
        ("Ж-{a}", simple, ("ü",), {}, "Ж-ü"),
    ],
)
def test_a_field_is_filled_from_the_call(text, function, args, kwargs, key):
    assert key_of(text, function, *args, **kwargs) == key


@pytest.mark.parametrize("text", ["{c}", "{a}-{c}", "{}", "{0}", "{c.d}"])
def test_a_field_that_names_no_argument_is_refused_when_it_is_given(text):
    with pytest.raises(ValueError, match=r"Arguments in a key\(.*\) do not match function signature params") as caught:
        pooled(text, max_size=1)(simple)

    assert str(caught.value).endswith("params((a, b=2)); valid names are: a, b")


@pytest.mark.parametrize("text", ["{args}", "{b}"])
def test_the_name_of_variable_arguments_is_no_field(text):
    def function(a, *args): ...

    with pytest.raises(ValueError, match="valid names are: a, args"):
        KeyTemplate(text, inspect.signature(function))


@pytest.mark.parametrize(("text", "args"), [("{extra}", (1,)), ("{2}", (1, 2, 3))])
def test_a_variable_argument_that_does_not_come_is_an_error_of_the_call(text, args):
    with pytest.raises(ValueError, match=r"Arguments in a key\("):
        key_of(text, variadic, *args)


@pytest.mark.parametrize(
    ("text", "value"), [("{a.nothing}", User(1)), ("{a[nothing]}", {}), ("{a[5]}", [1]), ("{a.x}", {"y": 1})]
)
def test_a_value_that_is_not_there_is_an_error_that_names_the_key(text, value):
    with pytest.raises(ValueError, match=r"the key '\{a.*' finds no value for 'a': \w+Error: "):
        key_of(text, simple, value)


def test_a_call_that_does_not_fit_the_function_is_its_usual_error():
    with pytest.raises(TypeError, match="missing a required argument: 'a'"):
        key_of("{a}", simple)


@pytest.mark.parametrize("text", ["{", "}", "{a", "{a[}", "{a!}", "{a!r"])
def test_a_key_that_cannot_be_parsed_is_refused(text):
    with pytest.raises(ValueError, match=r"cannot be parsed|Arguments in a key"):
        KeyTemplate(text, inspect.signature(simple))


@pytest.mark.parametrize("make", [pool, pooled])
@pytest.mark.parametrize(("key", "error"), [("", ValueError), (None, TypeError), (b"k", TypeError), (7, TypeError)])
def test_a_key_that_names_nothing_is_refused_when_it_is_given(make, key, error):
    with pytest.raises(error, match="key must"):
        make(key, max_size=1)


def test_a_key_is_given_back():
    assert check_key("k") == "k"


def test_a_callable_without_a_signature_takes_anything():
    assert str(signature_of(max)) == "(*args, **kwargs)"
    assert KeyTemplate("{0}-{x}", signature_of(max)).resolve((1,), {"x": 2}) == "1-2"
