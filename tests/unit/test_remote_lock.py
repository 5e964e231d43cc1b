# SPDX-License-Identifier: Apache-2.0
"""The account lock under every shell, with flock(1) and without: one program at a time, and none for long."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from glideinwms_bosco.remote.account_lock import LOCK_OTHER_NODE_S, busy_error, lock_parameters
from glideinwms_bosco.remote.program import load_program

SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]
_MAIN = """
bosco_lock_params
cd bosco
trap bosco_lock_release EXIT
bosco_lock_take
bosco_remote_say TAKEN
bosco_remote_param
bosco_remote_end 0
"""
pytestmark = pytest.mark.parametrize("shell", SHELLS)


@pytest.fixture(params=["flock", "no-flock", "refused"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A home with the tools of this machine; without flock(1), or with one that the file system refuses."""
    (tmp_path / "bosco").mkdir()
    tools = tmp_path / "tools"
    tools.mkdir()
    for folder in ("/usr/bin", "/bin"):
        for tool in Path(folder).iterdir():
            if not (tools / tool.name).exists():
                (tools / tool.name).symlink_to(tool)
    if request.param != "flock":
        (tools / "flock").unlink()
    if request.param == "refused":
        (tools / "flock").write_text("#!/bin/sh\necho 'flock: 9: Function not implemented' >&2\nexit 71\n")
        (tools / "flock").chmod(0o755)
    return tmp_path


def start(home: Path, shell: str, who: str) -> subprocess.Popen[str]:
    # The same program as on a login node, but for the directories that begin.sh adds to PATH.
    program = (load_program("begin.sh", "lock.sh") + _MAIN).replace("/usr/bin:/bin", str(home / "tools"))
    path = shutil.which(shell) or shell
    argv = [path, "sh", "-c", program] if shell == "busybox" else [path, "-c", program]
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"HOME": str(home), "PATH": f"{home}/tools"}
    )
    assert process.stdin is not None
    process.stdin.write(f"nonce\n{who} deploy\n{LOCK_OTHER_NODE_S}\n")
    process.stdin.flush()
    return process


@contextmanager
def holder(home: Path, shell: str) -> Iterator[subprocess.Popen[str]]:
    """A program that has the lock."""
    process = start(home, shell, "ann@one")
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line == "TAKEN\n":
                break
        yield process
    finally:
        process.kill()
        process.communicate()


def attempt(home: Path, shell: str) -> str:
    return start(home, shell, "bob@two").communicate("\n", timeout=20)[0]


def test_second_program_is_told_who_holds_it(home: Path, shell: str) -> None:
    with holder(home, shell) as first:
        said = attempt(home, shell)
        assert "TAKEN" not in said
        line = next(line for line in said.splitlines() if line.startswith("ERROR busy "))
        error = busy_error(line, "site x")
        assert f"ann@one is changing this account: deploy since {time.strftime('%Y-')}" in error.message
        assert f"(process {first.pid} on {os.uname().nodename})" in error.message


def test_holder_written_by_another_program_is_shown_harmless(shell: str) -> None:
    del shell
    message = busy_error("held by 1 1 x login\x1b[2J an\u202en gc\x07", "site x").message
    assert message.isprintable()
    assert "is changing this account" in message


def test_program_that_has_ended_leaves_nothing_locked(home: Path, shell: str) -> None:
    assert "TAKEN" in attempt(home, shell)
    assert "TAKEN" in attempt(home, shell)
    assert not (home / "bosco/lock.d").exists()


def test_killed_program_leaves_nothing_locked(home: Path, shell: str) -> None:
    with holder(home, shell) as process:
        process.kill()
        process.wait()
        assert "TAKEN" in attempt(home, shell)


@pytest.mark.parametrize(("age_s", "taken"), [(LOCK_OTHER_NODE_S - 60, False), (LOCK_OTHER_NODE_S + 60, True)])
def test_lock_directory_of_another_node_is_broken_when_it_is_old(
    home: Path, shell: str, age_s: int, taken: bool
) -> None:
    lock = home / "bosco/lock.d"
    lock.mkdir()
    (lock / "holder").write_text("1700000000 1 1 login7 ann@one gc\n")
    since = time.time() - age_s
    os.utime(lock, (since, since))
    assert ("TAKEN" in attempt(home, shell)) == taken


def test_who_is_one_plain_line(monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    del shell
    monkeypatch.setattr("getpass.getuser", lambda: "an n\n$(x)")
    who, seconds = lock_parameters("gc")
    assert who.split(" ")[1:] == ["gc"]
    assert "an_n" in who
    assert who.isprintable()
    assert seconds == str(LOCK_OTHER_NODE_S)
