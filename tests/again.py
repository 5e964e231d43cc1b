# SPDX-License-Identifier: Apache-2.0
"""Run the files of failed tests once more, with nothing beside them: `python -m tests.again STATUS FOLDER [REPORT]`.

STATUS is what pytest has ended with or, with REPORT, bats, which has written that report (junit). Tests that run real
programs side by side on a small machine fail now and then for want of time only. What fails alone too is broken; what
then passes is named, so that nobody overlooks it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Optional

from lxml import etree

LAST_FAILED = Path(".pytest_cache/v/cache/lastfailed")
"""pytest's own list: JSON, its keys are the node ids of failed tests."""
TESTS_FAILED = 1
"""Both programs' exit status for it; with another one something else is wrong."""
MOST_FILES = 4
"""That more of them fail is no accident."""
REPORT_WITHIN_S = 10.0
"""bats does not wait for the program that writes its report."""


def failed_by_pytest(folder: str) -> list[str]:
    """Node ids of failed tests below a folder."""
    return sorted(test for test in json.loads(LAST_FAILED.read_text(encoding="utf-8")) if test.startswith(folder))


def failed_by_bats(folder: str, report: Path) -> list[str]:
    """FILE::NAME of failed tests below a folder; none where the report does not have every test."""
    count = int(subprocess.run(["bats", "--count", folder], check=True, capture_output=True, text=True).stdout)
    suites = read_suites(report)
    if sum(len(suite.findall("testcase")) for suite in suites) != count:
        return []
    return [
        f"{Path(folder, suite.get('name'))}::{case.get('name')}"
        for suite in suites
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]


def read_suites(report: Path) -> list[Any]:
    """What the report has of each file, once it is whole; nothing when it never is."""
    ends = time.monotonic() + REPORT_WITHIN_S
    while time.monotonic() < ends:
        try:
            return etree.parse(str(report)).getroot().findall("testsuite")
        except (OSError, etree.XMLSyntaxError):
            time.sleep(0.1)
    return []


def files_of(tests: Collection[str]) -> list[str]:
    """The files that hold these tests."""
    return sorted({test.partition("::")[0] for test in tests})


def main(status: int, folder: str, report: Optional[str] = None) -> int:
    """Run them; the status to end with."""
    if status != TESTS_FAILED:
        return status
    failed = failed_by_bats(folder, Path(report)) if report else failed_by_pytest(folder)
    files = files_of(failed)
    if not 1 <= len(files) <= MOST_FILES:
        return status
    program: Sequence[str] = ["bats"] if report else [sys.executable, "-m", "pytest", "-m", "not alone"]
    print("FAILED beside other tests; now alone:", *failed, sep="\n  ", flush=True)
    again = subprocess.run([*program, *files], check=False).returncode
    if again == 0:
        print("WARNING: failed beside other tests, passed alone:", *failed, sep="\n  ", flush=True)
    return again


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), *sys.argv[2:]))
