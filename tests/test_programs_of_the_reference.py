"""Programs written for py-cachify and for cachepool run with only their import changed."""

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.programs import run

FOLDER = Path(__file__).parent / "seeds"
EXAMPLE = re.compile(r"^## (?P<title>.*?)\n+```python\n(?P<code>.*?)```\n+```text\n(?P<output>.*?)```", re.M | re.S)


class Example(NamedTuple):
    name: str
    code: str
    output: str


EXAMPLES = [
    Example(f"{page.stem}: {found['title']}", found["code"], found["output"])
    for page in sorted(FOLDER.glob("*.md"))
    for found in EXAMPLE.finditer(page.read_text("utf-8"))
]
NEXT_STEPS = {  # what the page leaves to the reader: its callback's path
    "pooled: Rescheduling (Celery/Taskiq)": """
from celery import Celery
from cachify_tasks import pool
app = Celery(broker="memory://")
app.set_default()
queue = app.connection_for_write().default_channel
print(process_user_task("u1"), process_user_task.delay("u1").id is not None, queue._size("celery"))
with pool("user-processing-pool-u1", 2), pool("user-processing-pool-u1", 2):
    print(process_user_task(user_id="u1"), queue._size("celery"))
    print(process_user_task(user_id="u2"))
""",
    "pooled: Logging and dropping": """
from cachify_tasks import pool
async def full():
    async with pool("notification-pool", 1):
        print(await send_notification("u1", message="m"))
send_notification = pooled(key="notification-pool", max_size=1, on_full=log_and_skip)(send_notification.__wrapped__)
asyncio.run(full())
""",
}
THEIR_OUTPUT = {
    "pooled: Rescheduling (Celery/Taskiq)": (
        "{'status': 'completed', 'user_id': 'u1'} True 1\n"
        "{'status': 'rescheduled', 'user_id': 'u1'} 2\n"
        "{'status': 'completed', 'user_id': 'u2'}\n"
    ),
    "pooled: Logging and dropping": "None\n",
}


def test_every_example_of_the_pages_is_found():
    assert len(EXAMPLES) == 17
    assert sum(page.read_text("utf-8").count("```python") for page in FOLDER.glob("*.md")) == 17


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_prints_what_is_documented(example, tmp_path):
    program = tmp_path / "main.py"
    program.write_text(example.code, "utf-8")

    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == example.output


@pytest.mark.parametrize("name", NEXT_STEPS)
def test_the_callback_of_an_example_does_what_it_says(name):
    (example,) = (example for example in EXAMPLES if example.name == name)

    assert run(f"{example.code}\n{NEXT_STEPS[name]}") == THEIR_OUTPUT[name]


def test_an_example_differs_from_the_reference_in_its_import_alone():
    for example in EXAMPLES:
        assert "py_cachify" not in example.code
        assert example.code.count("cachify_tasks") == 1
