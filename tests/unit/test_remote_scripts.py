# SPDX-License-Identifier: Apache-2.0
"""The programs sent to login nodes are portable shell and leave nothing to the login node's shell to guess."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from glideinwms_bosco.remote import ssh
from glideinwms_bosco.remote.program import BOOTSTRAP, load_program

SCRIPTS = sorted((Path(ssh.__file__).parent / "scripts").glob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_is_silent(script: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True, check=False)
    assert done.stdout == ""


@pytest.mark.parametrize("name", sorted({path.name for path in SCRIPTS} - {"begin.sh", "test_job.sh"}))
@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_program_parses_in_every_shell(name: str, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    argv = [shell, "sh", "-n"] if shell == "busybox" else [shell, "-n"]
    program = load_program("begin.sh", name)
    done = subprocess.run(argv, input=program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_bootstrap_holds_nothing_a_c_shell_expands_in_quotes() -> None:
    assert BOOTSTRAP.count("'") == 2
    assert not set("!\n\\") & set(BOOTSTRAP)
