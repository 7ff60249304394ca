"""Rules of the package, broken on purpose: each has a test that finds it."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple


class Mutant(NamedTuple):
    """`text`, which is in the module `file` so many times, becomes `broken`; the test `killer` finds it."""

    rule: str
    file: str
    text: str
    broken: str
    killer: Any
    times: int = 1


def replaced(where: str, source: str, text: str, broken: str, times: int = 1) -> str:
    """`source` with the text replaced; no AssertionError if it is not there: that would pass for a killed mutant."""
    if source.count(text) != times:
        raise LookupError(f"{where} has changed: mend the mutant of {text!r}")
    return source.replace(text, broken)


def mutate(folder: Path, mutant: Mutant) -> None:
    """Break the rule in this copy of a package."""
    file = folder / f"{mutant.file}.py"
    file.write_text(replaced(file.name, file.read_text("utf-8"), *mutant[2:4], mutant.times), "utf-8")


@contextmanager
def mutated(package: ModuleType, mutant: Mutant, folder: Path) -> Iterator[Any]:
    """A copy of the package, beside it, in which the rule is broken. Its errors are those that the tests expect."""
    name, copy = f"{package.__name__.rpartition('.')[0]}.broken", folder / "broken"
    shutil.copytree(Path(package.__path__[0]), copy, ignore=shutil.ignore_patterns("__pycache__", "errors.py"))
    mutate(copy, mutant)
    spec = importlib.util.spec_from_file_location(name, copy / "__init__.py", submodule_search_locations=[str(copy)])
    assert spec is not None
    assert spec.loader is not None
    broken = sys.modules[name] = importlib.util.module_from_spec(spec)
    sys.modules[f"{name}.errors"] = import_module(f"{package.__name__}.errors")
    try:
        spec.loader.exec_module(broken)
        yield broken
    finally:
        for each in [each for each in sys.modules if each == name or each.startswith(f"{name}.")]:
            del sys.modules[each]


def named(name: str, suites: Iterable[ModuleType]) -> Any:
    """The test of that name."""
    (test,) = (vars(suite)[name] for suite in suites if name in vars(suite))
    return test
