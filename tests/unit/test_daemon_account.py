# SPDX-License-Identifier: Apache-2.0
"""`init` by root: the daemon reads its policy and key, and owns what it writes."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from glideinwms_bosco.cli import ssh_broker, ssh_relay
from glideinwms_bosco.cli.daemon_account import give_to_owner_of
from glideinwms_bosco.errors import EXIT_OK, EXIT_REFUSED, EXIT_USAGE

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
ACCOUNT = "nobody"


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DIR", "STATE", "LOG"):
        monkeypatch.setenv(f"GWMS_SSH_BROKER_{name}", str(tmp_path / name.lower()))
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    return tmp_path


def owners(path: Path) -> tuple[str, str, int]:
    return path.owner(), path.group(), stat.S_IMODE(path.stat().st_mode)


@ROOT_ONLY
def test_broker_gets_what_it_writes_and_reads_what_root_writes(broker: Path) -> None:
    before = os.umask(0o077)
    try:
        assert ssh_broker.main(["init", "--user", ACCOUNT]) == EXIT_OK
    finally:
        os.umask(before)
    group = owners(broker / "state")[1]
    assert owners(broker / "state") == owners(broker / "log") == (ACCOUNT, group, 0o750)
    assert owners(broker / "dir") == ("root", group, 0o750)
    assert owners(broker / "dir" / "policy.json") == ("root", group, 0o640)
    assert owners(broker / "state" / "broker.key") == (ACCOUNT, group, 0o600)


@ROOT_ONLY
def test_folders_that_are_there_stay_as_they_are(broker: Path) -> None:
    (broker / "state").mkdir(mode=0o700)
    assert ssh_broker.main(["init", "--user", ACCOUNT]) == EXIT_OK
    assert owners(broker / "state") == ("root", "root", 0o700)


@ROOT_ONLY
def test_relays_key_belongs_to_the_relay(tmp_path: Path) -> None:
    conf = {"version": 1, "identity": str(tmp_path / "relay"), "allowed_uids": ["root"], "brokers": []}
    (tmp_path / "relay.conf").write_text(json.dumps(conf))
    assert ssh_relay.main(["--conf", str(tmp_path / "relay.conf"), "init", "--user", ACCOUNT]) == EXIT_OK
    assert owners(tmp_path / "relay.key")[::2] == (ACCOUNT, 0o600)
    assert owners(tmp_path / "relay.crt")[::2] == ("root", 0o644)


@ROOT_ONLY
def test_account_that_is_not_there_is_said_before_anything_is_made(
    broker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ssh_broker.main(["init", "--user", "no-such-user"]) == EXIT_USAGE
    assert "there is no account 'no-such-user' on this host" in capsys.readouterr().err
    assert not list(broker.iterdir())


@ROOT_ONLY
def test_root_does_not_run_the_broker_in_its_accounts_folders(broker: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its log and pid file would be root's, and the service could not start any more."""
    assert ssh_broker.main(["init", "--user", ACCOUNT]) == EXIT_OK
    before = sorted(broker.rglob("*"))
    assert ssh_broker.main(["run"]) == EXIT_REFUSED
    assert "belongs to another user" in capsys.readouterr().err
    assert sorted(broker.rglob("*")) == before


@ROOT_ONLY
def test_handle_files_that_root_writes_belong_to_the_frontend(broker: Path) -> None:
    folder = broker / "frontend"
    folder.mkdir(mode=0o700)
    shutil.chown(folder, ACCOUNT)
    file = folder / "handle"
    file.touch(0o600)
    give_to_owner_of(folder, file, None)
    assert file.owner() == ACCOUNT


def test_only_root_gives_away(
    broker: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    assert ssh_broker.main(["init", "--user", ACCOUNT]) == EXIT_USAGE
    assert "--user is for root only" in capsys.readouterr().err
    assert not list(broker.iterdir())
