import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cachify_tasks.testing import server

SOURCE = Path(__file__).parent.parent / "cachify_tasks"
INSTALLED = Path(server.__file__).parent.parent


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


def distributions(requirement: Requirement, found: set[str]) -> set[str]:
    """What pip installs for it: itself, what it requires, and so on."""
    name = requirement.name.lower().replace("_", "-")
    seen = {f"{name}[{extra}]" for extra in requirement.extras or ("",)} - found
    found |= seen
    for one in map(Requirement, metadata.requires(name) or ()) if seen else ():
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in requirement.extras or {""}):
            distributions(one, found)
    return found


def test_the_extra_for_celery_brings_all_that_a_redis_broker_and_the_adapter_import():
    brought = {name.partition("[")[0] for name in distributions(Requirement("cachify-tasks[celery]"), set())}
    others = {
        module
        for module, owners in metadata.packages_distributions().items()
        if not brought & {owner.lower().replace("_", "-") for owner in owners}
    }
    code = f"import sys; sys.modules.update(dict.fromkeys({sorted(others - set(sys.stdlib_module_names))!r}))"

    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import kombu.transport.redis, celery.backends.redis, cachify_tasks.celery"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
