"""The registry of what a framework's adapter brings."""

import ast
import re
import sys
import types

import pytest

from cachify_tasks import CachifyInitError, CachifySettingError, _adapters, init_cachify, pool
from cachify_tasks._adapters import App, adopter, agreed, register_apps, same_store
from cachify_tasks._runtime.instances import join_global, peek_global_runtime, set_global_runtime
from tests.support.pages import ROOT

URL = "redis://localhost:1/0"
OTHER = "redis://localhost:1/1"


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch):
    monkeypatch.setattr(_adapters, "_providers", [])
    set_global_runtime(None)
    yield
    set_global_runtime(None)


def an_app(name, url=URL, **settings):
    runtime = init_cachify(url=url, is_global=False, **settings)._runtime
    return App(name, lambda: runtime)


def test_direct_calls_use_the_store_that_the_apps_of_two_frameworks_agree_on():
    one, other = an_app("the Celery app 'shop'"), an_app("the Taskiq broker 'shop'")
    register_apps(lambda: [one])
    register_apps(lambda: [other])

    assert pool("p", max_size=1)._runtime is one.runtime()


def test_apps_of_two_frameworks_with_two_stores_are_refused_and_both_are_named():
    register_apps(lambda: [an_app("the Celery app 'shop'")])
    register_apps(lambda: [an_app("the Taskiq broker 'shop'", OTHER)])

    with pytest.raises(CachifyInitError) as caught:
        pool("p", max_size=1).size()

    message = str(caught.value)
    assert f"the Celery app 'shop' uses the store {URL} (prefix 'PYC-')" in message
    assert f"the Taskiq broker 'shop' the store {OTHER} (prefix 'PYC-')" in message
    assert "limits would not be shared. Give both the same url and prefix" in message
    assert peek_global_runtime() is None


@pytest.mark.parametrize("other", [{"url": OTHER}, {"prefix": "other-"}, {"url": "memory://"}])
def test_an_app_joins_no_global_instance_with_another_store(other):
    init_cachify(url=URL)

    with pytest.raises(CachifyInitError, match=r"init_cachify\(\) uses the store .*the app the store .* not be shared"):
        join_global(an_app("the app", **other))


def test_an_app_becomes_the_global_instance_and_one_with_the_same_store_joins_it():
    first, second = an_app("first"), an_app("second")

    assert join_global(first) is first.runtime()
    assert join_global(second) is second.runtime()

    assert peek_global_runtime() is first.runtime()


def test_each_memory_is_a_store_of_its_own():
    one, other = an_app("one", "memory://").runtime(), an_app("other", "memory://").runtime()

    assert same_store(one, one)
    assert not same_store(one, other)
    with pytest.raises(CachifyInitError, match="uses the store memory"):
        agreed([App("one", lambda: one), App("other", lambda: other)])


def test_an_app_with_incomplete_settings_is_left_out_if_another_one_can_serve():
    def incomplete():
        raise CachifySettingError("no url")

    whole = an_app("whole")
    register_apps(lambda: [App("incomplete", incomplete), whole])

    assert pool("p", max_size=1)._runtime is whole.runtime()


def test_the_error_of_incomplete_settings_comes_out_if_no_app_can_serve():
    def incomplete():
        raise CachifySettingError("no url")

    register_apps(lambda: [App("incomplete", incomplete)])

    with pytest.raises(CachifySettingError, match="no url"):
        pool("p", max_size=1).size()


def test_the_object_of_a_framework_is_taken_in_by_the_subpackage_of_its_name():
    class Task:
        pass

    class Sub(Task):
        pass

    Task.__module__ = "celery.anything.at_all"

    found = adopter(Sub())

    assert found is not None
    assert (found.__module__, found.__name__) == ("cachify_tasks.celery.decorator_order", "adopt")  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", ["testing.tools", "pools", "os", "__main__", "nowhere", "", "pooling"])
def test_an_object_of_a_module_without_an_adapter_is_a_function_like_any_other(module, monkeypatch):
    cls = types.new_class("Thing")
    cls.__module__ = module
    before = set(sys.modules)

    assert adopter(cls()) is None
    assert not {name for name in set(sys.modules) - before if name.startswith("cachify_tasks")}


def test_the_code_below_the_adapters_names_no_framework():
    package = ROOT / "cachify_tasks"
    above = {"celery", "taskiq", "demo", "testing"}
    files = [file for file in package.rglob("*.py") if not above & set(file.relative_to(package).parts)]
    assert len(files) > 50

    named = [file.name for file in files if re.search("celery|taskiq", without_docstrings(file.read_text("utf-8")))]

    assert named == []


def without_docstrings(source: str) -> str:
    """The code, without comments too."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            node.body[0] = ast.Pass()
    return ast.unparse(tree).lower()
