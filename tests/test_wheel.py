import os
from pathlib import Path

import pytest

from cachify_tasks import _embedded

SOURCE = Path(__file__).parent.parent / "cachify_tasks"
INSTALLED = Path(_embedded.__file__).parent


def files_of(package: Path) -> set[str]:
    return {
        str(path.relative_to(package))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_package_under_test_is_the_wheel_where_one_was_built():
    wheel = os.getenv("CACHIFY_TEST_WHEEL")
    if not wheel:
        pytest.skip("the source is under test; `make test` builds a wheel")

    assert Path(wheel) in INSTALLED.parents


def test_the_installed_package_has_every_file_of_the_source():
    assert files_of(INSTALLED) >= files_of(SOURCE)


def test_the_installed_package_is_typed():
    assert "py.typed" in files_of(INSTALLED)
