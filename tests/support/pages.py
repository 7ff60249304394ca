"""Code blocks of Markdown pages, and a program that runs them.

Each block runs in a process of its own, as a reader would paste it into a fresh interpreter. A block after the comment
<!-- continues --> runs after the block before it, in the same process. A block with a title (```python title="shop.py")
is also a file of that name, which all blocks of its page and workers can import; a test_*.py is run by pytest. A block
that cannot be run has a comment before it that says why: <!-- no-run: reason -->.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What pages write for "your Redis": the store, and a second database.
STORE, OTHER = "redis://localhost:6379/0", "redis://localhost:6379/1"
_FENCE = re.compile(r"^( *)```(\w*)(.*)$")
_TITLE = re.compile(r'title="([^"]+)"')
_NO_RUN = re.compile(r"^\s*<!-- no-run: (\S.*) -->\s*$")
_CONTINUES = "<!-- continues -->"


class Block(NamedTuple):
    line: int  # of its first line of code
    language: str
    title: str  # the file that it is, or nothing
    code: str
    reason: str  # why it is not run, or nothing
    continues: bool  # runs in the process of the block before it


def pages() -> list[Path]:
    """Every page whose code is run."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    return list(_blocks(page.read_text("utf-8").splitlines()))


def programs(page: Path) -> list[list[Block]]:
    """The Python blocks that can be run, grouped by the process that runs them."""
    found: list[list[Block]] = []
    for block in blocks(page):
        if block.language != "python" or block.reason:
            continue
        if block.continues and found:
            found[-1].append(block)
        else:
            found.append([block])
    return found


def _blocks(lines: list[str]) -> Iterator[Block]:
    start, indent, language, rest, comment = 0, "", "", "", ""
    code: list[str] | None = None
    for number, line in enumerate(lines, 1):
        fence = _FENCE.match(line)
        if code is not None and line.strip() == "```":
            title, reason = _TITLE.search(rest), _NO_RUN.match(comment)
            yield Block(
                start,
                language,
                title[1] if title else "",
                "\n".join(code) + "\n",
                reason[1] if reason else "",
                comment.strip() == _CONTINUES,
            )
            code, comment = None, ""
        elif code is not None:
            code.append(line.removeprefix(indent))
        elif fence:
            start, indent, language, rest, code = number + 1, *fence.groups(), []
        elif line.strip():
            comment = line


def at_server(code: str, store: str, other: str) -> str:
    """The code with the servers of a test in place of the reader's."""
    return code.replace(STORE, store).replace(OTHER, other)


def write_files(page: Path, folder: Path, store: str, other: str) -> None:
    """Make the files that a page's blocks are."""
    for block in blocks(page):
        if block.title:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(at_server(block.code, store, other), "utf-8")
            if path.parent != folder:
                (path.parent / "__init__.py").touch()


def run_program(page: Path, line: int, folder: Path, store: str, other: str) -> None:
    """Run the blocks of the program whose first block begins at this line of the page."""
    (program,) = [program for program in programs(page) if program[0].line == line]
    sys.path.insert(0, str(folder))
    sys.modules["page"] = ModuleType("page")  # a function looks for the module that it comes from
    names: dict[str, Any] = vars(sys.modules["page"])
    for block in program:
        if block.title.startswith("test_"):
            assert pytest.main(["-q", "-p", "no:cacheprovider", "-c", os.devnull, str(folder / block.title)]) == 0
        elif block.title:
            module = importlib.import_module(
                block.title.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
            )
            names |= {name: value for name, value in vars(module).items() if not name.startswith("__")}
        else:  # blank lines in front: a traceback shows the line of the page
            code = "\n" * (block.line - 1) + at_server(block.code, store, other)
            exec(compile(code, str(page), "exec", dont_inherit=True), names)


if __name__ == "__main__":
    run_program(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], sys.argv[5])
