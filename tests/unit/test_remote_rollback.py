# SPDX-License-Identifier: Apache-2.0
"""Rollback over a real sshd: a switch of the link, to a version that was verified, or nothing."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import cast

import pytest

from glideinwms_bosco.errors import BusyError, DriftError, RemoteError
from glideinwms_bosco.remote import rollback as rollback_module
from glideinwms_bosco.remote.rollback import rollback
from glideinwms_bosco.remote.ssh import SshSession
from glideinwms_bosco.remote.verify import VerifyReport, VersionCheck, verify
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd
from tests.unit.test_remote_deploy import NEW, OLD, assert_installed, bosco, install, leftovers, mounted_tmpfs, snapshot
from tests.unit.test_remote_ssh import runtime_directory
from tests.unit.test_remote_versions import DIR, THIRD

__all__ = ["loopback_sshd", "runtime_directory"]


def test_switches_back_and_sends_no_file(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, OLD)
    install(loopback_sshd, NEW)
    with loopback_sshd.session() as session:
        report = rollback(session, DIR)
        assert session.programs_run == 2
    assert (report.action, report.digest, report.before, report.complete) == ("switched", OLD.digest, NEW.digest, True)
    assert_installed(loopback_sshd, OLD)
    assert leftovers(loopback_sshd) == []


def test_dry_run_changes_nothing(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, OLD)
    install(loopback_sshd, NEW)
    before = snapshot(loopback_sshd.home)
    with loopback_sshd.session() as session:
        assert rollback(session, DIR, dry_run=True).action == "would-switch"
        assert rollback(session, DIR, NEW.digest).action == "unchanged"
    assert snapshot(loopback_sshd.home) == before


@pytest.mark.parametrize("damage", ["content", "mode", "missing", "open"])
def test_damaged_version_is_refused(loopback_sshd: LoopbackSshd, damage: str) -> None:
    install(loopback_sshd, OLD)
    install(loopback_sshd, NEW)
    program = bosco(loopback_sshd) / "versions" / OLD.digest / "bin/blahpd"
    if damage == "content":
        program.write_bytes(b"")
    elif damage == "missing":
        program.unlink()
    else:
        program.chmod(0o600 if damage == "mode" else 0o777)
    before = snapshot(loopback_sshd.home)
    with pytest.raises(DriftError, match="bin/blahpd") as caught, loopback_sshd.session() as session:
        rollback(session, DIR)
    assert "deploy its bundle again" in caught.value.hint
    assert snapshot(loopback_sshd.home) == before


def test_cache_of_python_does_not_stand_in_the_way(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, OLD)
    cache = bosco(loopback_sshd) / "glite/libexec/__pycache__"
    cache.mkdir(parents=True)
    (cache / "blah.cpython-313.pyc").touch()
    install(loopback_sshd, NEW)
    with loopback_sshd.session() as session:
        assert rollback(session, DIR).action == "switched"


def test_other_version_that_is_rubble_does_not_stand_in_the_way(loopback_sshd: LoopbackSshd) -> None:
    for bundle in (OLD, NEW):
        install(loopback_sshd, bundle)
    (bosco(loopback_sshd) / "versions" / NEW.digest / "manifest.entries").write_bytes(b"\xff" * 100_000)
    with loopback_sshd.session() as session:
        assert rollback(session, DIR).action == "switched"
    assert_installed(loopback_sshd, OLD)


@pytest.mark.parametrize("times", [0, 2])
def test_login_node_that_does_not_tell_what_a_version_holds_is_an_error(
    times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = OLD.digest
    check = VersionCheck(digest, True, 1, ())
    report = VerifyReport("a", None, digest, (digest,), (check,) * times, ())
    monkeypatch.setattr(rollback_module, "verify", lambda *_: report)
    session = cast(SshSession, SimpleNamespace(label="site x: a@b:22"))
    with pytest.raises(RemoteError, match="does not say what version"):
        rollback(session, DIR)


def test_nothing_to_go_back_to_is_said(loopback_sshd: LoopbackSshd) -> None:
    for install_first in (False, True):
        if install_first:
            install(loopback_sshd, OLD)
        with pytest.raises(RemoteError, match="no version that was current before"), loopback_sshd.session() as session:
            rollback(session, DIR)


def test_unknown_version_is_refused(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, OLD)
    with pytest.raises(RemoteError, match="no version begins with '0123'"), loopback_sshd.session() as session:
        rollback(session, DIR, "0123")


def test_glite_of_somebody_else_is_not_replaced(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, OLD)
    (bosco(loopback_sshd) / "glite").unlink()
    (bosco(loopback_sshd) / "glite").symlink_to("/sw/bosco/glite")
    with pytest.raises(RemoteError, match="not a link of ours"), loopback_sshd.session() as session:
        rollback(session, DIR, OLD.digest)
    assert str((bosco(loopback_sshd) / "glite").readlink()) == "/sw/bosco/glite"


def test_link_that_another_operator_has_moved_meanwhile_stays(
    loopback_sshd: LoopbackSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bundle in (OLD, NEW):
        install(loopback_sshd, bundle)

    def slow_verify(*arguments: object) -> object:
        report = verify(*arguments)  # type: ignore[arg-type]
        install(loopback_sshd, THIRD)
        return report

    monkeypatch.setattr(rollback_module, "verify", slow_verify)
    with pytest.raises(BusyError, match="was changed meanwhile"), loopback_sshd.session() as session:
        rollback(session, DIR)
    assert_installed(loopback_sshd, THIRD)


def test_lost_link_is_made_again(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, OLD)
    install(loopback_sshd, NEW)
    (bosco(loopback_sshd) / "glite").unlink()
    with loopback_sshd.session() as session:
        report = rollback(session, DIR)
    assert (report.action, report.before) == ("switched", None)
    assert_installed(loopback_sshd, NEW)


def test_full_disk_does_not_stop_the_switch(loopback_sshd: LoopbackSshd) -> None:
    with mounted_tmpfs(loopback_sshd.home, "3m"):
        install(loopback_sshd, OLD)
        install(loopback_sshd, NEW)
        filler = (loopback_sshd.home / "filler").open("wb", buffering=0)
        with filler, contextlib.suppress(OSError):
            while filler.write(b"x" * 4096):
                pass
        for expected in (OLD, NEW):
            with loopback_sshd.session() as session:
                assert rollback(session, DIR).digest == expected.digest
            assert_installed(loopback_sshd, expected)
