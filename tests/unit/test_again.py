# SPDX-License-Identifier: Apache-2.0
"""tests/again.py: what fails twice fails, what passes alone is named, and nothing else is run again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import again

CHECKOUT = Path(__file__).parents[2]
# The first run leaves a file behind, as a busy moment passes.
_BUSY = """\
from pathlib import Path

def test_passes_the_second_time():
    seen = Path("seen")
    first = not seen.exists()
    seen.touch()
    assert not first
"""
NEEDS_BATS = pytest.mark.skipif(shutil.which("bats") is None, reason="no bats on this machine")
_BROKEN = "def test_never_passes():\n    assert False\n"
_WELL = "from pathlib import Path\n\ndef test_well():\n    Path('ran').open('a').write('once ')\n"


def run(folder: Path, files: dict[str, str]) -> tuple[int, str]:
    """The status and output of a run of these tests, and of the second where there is one."""
    (folder / "tests").mkdir()
    for name, text in files.items():
        (folder / "tests" / name).write_text(text)
    first = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests"], cwd=folder, check=False, capture_output=True
    )
    done = subprocess.run(
        [sys.executable, str(CHECKOUT / "tests" / "again.py"), str(first.returncode), "tests"],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout


def test_what_passes_alone_is_named(tmp_path: Path) -> None:
    status, said = run(tmp_path, {"test_busy.py": _BUSY, "test_well.py": _WELL})
    assert status == 0
    assert (
        "WARNING: failed beside other tests, passed alone:\n  tests/test_busy.py::test_passes_the_second_time" in said
    )
    assert (tmp_path / "ran").read_text() == "once "


def test_what_fails_twice_fails(tmp_path: Path) -> None:
    status, said = run(tmp_path, {"test_busy.py": _BUSY, "test_broken.py": _BROKEN})
    assert status == again.TESTS_FAILED
    assert "WARNING" not in said


def test_many_failures_are_no_accident(tmp_path: Path) -> None:
    status, said = run(tmp_path, {f"test_{number}.py": _BROKEN for number in range(again.MOST_FILES + 1)})
    assert (status, said) == (again.TESTS_FAILED, "")


_BATS = """\
@test "well" {
    echo once >>"$BATS_TEST_DIRNAME/../ran"
}
@test "busy & <odd>" {
    [ -e "$BATS_TEST_DIRNAME/../seen" ] || { touch "$BATS_TEST_DIRNAME/../seen"; false; }
}
"""


def run_bats(folder: Path, files: dict[str, str]) -> tuple[int, str]:
    """As `run`."""
    (folder / "tests").mkdir()
    (folder / "build").mkdir()
    for name, text in files.items():
        (folder / "tests" / name).write_text(text)
    argv = ["bats", "--report-formatter", "junit", "--output", "build", "tests"]
    first = subprocess.run(argv, cwd=folder, check=False, capture_output=True)
    argv = [sys.executable, str(CHECKOUT / "tests" / "again.py"), str(first.returncode), "tests", "build/report.xml"]
    done = subprocess.run(argv, cwd=folder, check=False, capture_output=True, text=True)
    return done.returncode, done.stdout


@NEEDS_BATS
def test_files_of_bats_run_again_too(tmp_path: Path) -> None:
    status, said = run_bats(tmp_path, {"a.bats": _BATS, "b.bats": '@test "third" {\n    true\n}\n'})
    assert status == 0
    assert "WARNING: failed beside other tests, passed alone:" in said
    assert "a.bats::busy & <odd>" in said
    assert "third" not in said
    assert (tmp_path / "ran").read_text() == "once\nonce\n"


@NEEDS_BATS
@pytest.mark.parametrize("other", ['@test "never" {\n    false\n}\n', '@test "no bash" {\n    if\n}\n'])
def test_what_bats_finds_broken_fails(tmp_path: Path, other: str) -> None:
    """Also a file that bats cannot even read, which is in no report."""
    status, said = run_bats(tmp_path, {"a.bats": _BATS, "b.bats": other})
    assert status == again.TESTS_FAILED
    assert "WARNING" not in said


@pytest.mark.parametrize("status", [0, 2, 3, 4, 5])
def test_only_failed_tests_run_again(status: int) -> None:
    assert again.main(status, "tests") == status
