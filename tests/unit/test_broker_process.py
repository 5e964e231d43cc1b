# SPDX-License-Identifier: Apache-2.0
"""The daemon's pid file: who holds it runs, and nobody else is signalled."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from pathlib import Path

import pytest

from glideinwms_bosco.broker.process import PidFile, running_pid, tell_to_reload
from glideinwms_bosco.errors import BrokerError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "broker.pid"


def test_names_the_broker_while_it_runs(path: Path) -> None:
    held = PidFile(path)
    assert running_pid(path) == os.getpid()
    with pytest.raises(BrokerError, match="another broker runs"):
        PidFile(path)
    held.release()
    assert running_pid(path) is None
    PidFile(path).release()


def test_who_looks_at_the_same_moment_keeps_no_broker_from_starting(path: Path) -> None:
    path.touch()
    looking = path.open("rb")
    fcntl.flock(looking, fcntl.LOCK_SH)
    timer = threading.Timer(0.05, looking.close)
    timer.start()
    PidFile(path).release()
    timer.join()


def test_link_in_its_place_is_not_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    path.symlink_to(tmp_path / "precious")
    with pytest.raises(BrokerError, match="cannot be written"):
        PidFile(path)
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("text", ["0", "1", "-1", "", "x", "99999999"])
def test_only_a_process_of_the_files_owner_is_signalled(path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack: the broker's account, taken over, writes the pid of another user's process; root runs `key disable`."""
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: told.append((pid, number)))
    held = PidFile(path)
    assert tell_to_reload(path)
    assert told == [(os.getpid(), signal.SIGHUP)]
    path.write_text(text)
    if text == "1" and os.geteuid() == 0:
        os.chown(path, 4321, -1)
    assert not tell_to_reload(path)
    assert len(told) == 1
    held.release()
