# SPDX-License-Identifier: Apache-2.0
"""Run the files of failed tests once more, with nothing beside them: `python -m tests.again STATUS FOLDER`.

STATUS is what pytest has ended with. Tests that run real batch systems side by side on a small machine fail now and
then for want of time only. What fails alone too is broken; what then passes is named, so that nobody overlooks it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

LAST_FAILED = Path(".pytest_cache/v/cache/lastfailed")
"""pytest's own list: JSON, its keys are the node ids of failed tests."""
TESTS_FAILED = 1
MOST_FILES = 4
"""That more of them fail is no accident."""


def files_of(tests: Collection[str]) -> list[str]:
    """The files that hold these tests, by their node ids."""
    return sorted({test.partition("::")[0] for test in tests})


def main(status: int, folder: str) -> int:
    """Run them; the status to end with."""
    if status != TESTS_FAILED:
        return status
    failed = sorted(test for test in json.loads(LAST_FAILED.read_text(encoding="utf-8")) if test.startswith(folder))
    files = files_of(failed)
    if not 1 <= len(files) <= MOST_FILES:
        return status
    print("FAILED beside other tests; now alone:", *failed, sep="\n  ", flush=True)
    again = subprocess.run([sys.executable, "-m", "pytest", "-m", "not alone", *files], check=False).returncode
    if again == 0:
        print("WARNING: failed beside other tests, passed alone:", *failed, sep="\n  ", flush=True)
    return again


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2]))
