# SPDX-License-Identifier: Apache-2.0
"""Asking a pool for machine ads; the stand-in `condor_status` gives answers that a real one gives on bad days."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from glideinwms_bosco.errors import ScheddError
from glideinwms_bosco.remote.pool import query_machines


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def standin(folder: Path, script: str) -> None:
    program = folder / "condor_status"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)


def test_arguments_and_answer(path: Path, tmp_path: Path) -> None:
    standin(path, f"""printf '%s\\n' "$@" > {tmp_path}/argv; echo '[{{"Name": "a"}}, {{"Name": "b"}}]'""")
    assert query_machines("c.example.org:9618", "A =!= undefined", ("Name", "A")) == [{"Name": "a"}, {"Name": "b"}]
    assert (tmp_path / "argv").read_text(encoding="utf-8").splitlines() == [
        *("-pool", "c.example.org:9618", "-json"),
        *("-constraint", "A =!= undefined", "-attributes", "Name,A"),
    ]


@pytest.mark.parametrize("answer", ["", "[]", "[\n]\n"])
def test_pool_without_such_machines_gives_nothing(path: Path, answer: str) -> None:
    standin(path, f"printf '{answer}'")
    assert query_machines("c", "true", ("Name",)) == []


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'Error: communication error' >&2; exit 1", "communication error"),
        ("exit 1", "no reason given"),
        ("echo '[{'", "no JSON"),
        ("printf '[%.0s' $(seq 100000)", "no JSON"),
        ("echo '{}'", "no list of ads"),
        ("echo '[1]'", "no list of ads"),
        ("kill -9 $$", "cannot be asked"),
    ],
)
def test_anything_else_is_one_sentence(path: Path, script: str, message: str) -> None:
    standin(path, script)
    with pytest.raises(ScheddError, match=message) as caught:
        query_machines("c.example.org", "true", ("Name",))
    assert "\n" not in str(caught.value)


def test_answer_has_a_limit(path: Path) -> None:
    standin(path, "yes '[]'")
    with pytest.raises(ScheddError, match="larger than 1000 bytes"):
        query_machines("c", "true", ("Name",), max_bytes=1000)


def test_pool_that_never_answers_is_given_up(path: Path) -> None:
    standin(path, f"exec {shutil.which('sleep')} 60")
    began = time.monotonic()
    with pytest.raises(ScheddError, match="not answered within 0 s"):
        query_machines("c", "true", ("Name",), deadline_s=0.3)
    assert time.monotonic() - began < 30


def test_machine_without_htcondor_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ScheddError, match="cannot be started"):
        query_machines("c", "true", ("Name",))
