"""How much of the package is untyped: annotations that contain `Any`, in themselves or by an alias."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.pages import ROOT

PACKAGE = ROOT / "cachify_tasks"

# Folder of the package ("": all of it; ".": the modules at its top): it has fewer annotations with `Any` than this.
BOUNDS = {
    "_core": 10,
    "_runtime": 3,
    ".": 8,
    "celery": 25,
    "_worker": 5,
    "": 200,
}
LEFT_OUT = {"demo"}

Names = dict[str, set[str]]  # by module: names that contain `Any`


@pytest.mark.parametrize("folder", BOUNDS)
def test_the_annotations_with_any_only_get_fewer(folder):
    found = counted(PACKAGE)
    print("\n".join(f"{found[each]:4} {each}" for each in sorted(found)))  # noqa: T201  # shown when the test fails

    assert (found[folder] if folder else found.total()) < BOUNDS[folder]


def test_an_annotation_counts_when_an_alias_hides_the_any(tmp_path):
    write(tmp_path, "hidden.py", "from typing import Any, TypeAlias\nLoad: TypeAlias = dict[str, Any]\n")
    write(tmp_path, "again.py", "from .hidden import Load\nLoads = list[Load]\n")
    write(tmp_path, "sub/uses.py", "from ..again import Loads as Found\ndef f(a: int, *b: Found) -> 'Found': ...\n")
    write(tmp_path, "other.py", "Load = list[int]\ndef f(a: Load) -> None: ...\n")  # its own, and harmless
    write(
        tmp_path,
        "lines.py",
        "import typing\nclass C:\n    a: typing.Any\n    b: int\n    async def f(self, x: 'list[Any]'): ...\n",
    )
    write(tmp_path, "demo/left_out.py", "from typing import Any\na: Any\n")

    assert counted(tmp_path) == {"sub": 2, ".": 2}


def write(folder: Path, name: str, text: str) -> None:
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, "utf-8")


def counted(package: Path) -> Counter[str]:
    """By folder: the annotations of arguments, results and names that contain `Any`."""
    files = [file.relative_to(package) for file in package.rglob("*.py")]
    trees = {file: ast.parse((package / file).read_text("utf-8")) for file in files if not LEFT_OUT & set(file.parts)}
    aliases = aliases_of_any({module(file): tree for file, tree in trees.items()})
    found: Counter[str] = Counter()
    for file, tree in trees.items():
        hits = sum(bool(aliases[module(file)] & names(each)) for each in annotated(tree))
        if hits:
            found[str(file.parent)] += hits
    return found


def module(file: Path) -> str:
    parts = [*file.parts[:-1], file.stem]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def aliases_of_any(trees: dict[str, ast.Module]) -> dict[str, set[str]]:
    """By module, the names in it that mean `Any` or something that contains it."""
    found = {name: {"Any"} for name in trees}
    known = 0
    while known < (known := sum(map(len, found.values()))):
        for name, tree in trees.items():
            for node in tree.body:
                match node:
                    case ast.AnnAssign(target=ast.Name(id=alias), annotation=annotation, value=ast.expr() as value):
                        if "TypeAlias" in names(annotation) and found[name] & names(value):
                            found[name].add(alias)
                    case ast.Assign(targets=[ast.Name(id=alias)], value=(ast.Subscript() | ast.BinOp()) as value):
                        if found[name] & names(value):
                            found[name].add(alias)
                    case ast.ImportFrom():
                        imported = found.get(source_of(name, node, trees), set())
                        found[name] |= {one.asname or one.name for one in node.names if one.name in imported}
    return found


def source_of(importing: str, node: ast.ImportFrom, trees: dict[str, ast.Module]) -> str:
    """The module that a relative import names, seen from the package's top."""
    parts = importing.split(".") if importing else []
    is_package = any(each.startswith(f"{importing}.") for each in trees) or not importing
    above = node.level - 1 if is_package else node.level
    return ".".join([*parts[: len(parts) - above], *(node.module or "").split(".")]).strip(".")


def annotated(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(returns=ast.expr() as result) | ast.AsyncFunctionDef(returns=ast.expr() as result):
                yield result
            case ast.arg(annotation=ast.expr() as annotation):
                yield annotation
            case ast.AnnAssign(annotation=annotation) if "TypeAlias" not in names(annotation):
                yield annotation


def names(expression: ast.expr) -> set[str]:
    """The names in an expression, and in the texts that stand for annotations in it."""
    found = set()
    for node in ast.walk(expression):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                found.add(name)
            case ast.Constant(value=str() as text):
                with suppress(SyntaxError):  # a Literal that is no name
                    found |= names(ast.parse(text, mode="eval").body)
    return found
