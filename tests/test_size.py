"""One idea a file: as long as it is read from top to bottom with ease."""

from pathlib import Path

import cachify_tasks

LONGEST = 400


def test_no_file_of_the_package_is_longer_than_it_is_read_with_ease():
    folder = Path(cachify_tasks.__file__).parent
    files = [*folder.rglob("*.py"), *folder.rglob("*.lua")]
    lengths = {str(path.relative_to(folder)): len(path.read_text().splitlines()) for path in files}

    assert len(lengths) > 100
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}
