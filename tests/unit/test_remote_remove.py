# SPDX-License-Identifier: Apache-2.0
"""remove over a real sshd: nothing while jobs need it, only what is ours, and everything that is ours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import pytest

from glideinwms_bosco.errors import BusyError
from glideinwms_bosco.remote.remove import Jobs, RemoveReport, remove
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd
from tests.unit.test_remote_deploy import NEW, OLD, assert_installed, bosco, install, snapshot
from tests.unit.test_remote_ssh import runtime_directory
from tests.unit.test_remote_versions import DIR, lease

__all__ = ["loopback_sshd", "runtime_directory"]


def squeue(daemon: LoopbackSshd, says: str = "", status: int = 0) -> None:
    """Put a batch command of a site on the login node."""
    place = daemon.home / "batch"
    place.mkdir(exist_ok=True)
    (place / "squeue").write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\nexit {status}\n")
    (place / "squeue").chmod(0o755)


def take_away(daemon: LoopbackSshd, *, force: bool = False, dry_run: bool = False) -> RemoveReport:
    jobs = Jobs("slurm", "pilot", f"{daemon.home}/batch", {})
    with daemon.session() as session:
        return remove(session, DIR, jobs, force=force, dry_run=dry_run)


def test_removes_everything_of_ours(loopback_sshd: LoopbackSshd) -> None:
    squeue(loopback_sshd)
    install(loopback_sshd, OLD)
    install(loopback_sshd, NEW)
    (bosco(loopback_sshd) / "log/FTGahpLog").touch()
    report = take_away(loopback_sshd)
    assert (report.action, set(report.versions), report.left) == ("removed", {OLD.digest, NEW.digest}, ())
    assert not bosco(loopback_sshd).exists()
    assert take_away(loopback_sshd).action == "nothing"
    install(loopback_sshd, OLD)
    assert_installed(loopback_sshd, OLD)


def test_dry_run_changes_nothing_and_says_what_stands_in_the_way(loopback_sshd: LoopbackSshd) -> None:
    squeue(loopback_sshd, "12 R")
    install(loopback_sshd, OLD)
    before = snapshot(loopback_sshd.home)
    report = take_away(loopback_sshd, dry_run=True)
    assert (report.action, report.versions) == ("would-remove", (OLD.digest,))
    assert "1 job(s) of the account in slurm (12)" in report.needed_by[0]
    assert snapshot(loopback_sshd.home) == before


NEEDS: dict[str, tuple[str, int, Optional[str], Optional[str], str]] = {
    "jobs": ("12 R\n13_4 PD", 0, None, None, r"2 job\(s\) of the account in slurm \(12, 13_4\)"),
    "batch system down": ("slurm_load_jobs error: Unable to contact", 1, None, None, "jobs are not known"),
    "no answer": ("", 1, None, None, "jobs are not known"),
    "sandbox": ("", 0, "schedd/1.0/out", None, "1 sandbox"),
    "process elsewhere": ("", 0, None, "login7", "process 7 on login7, if it still runs"),
}


@pytest.mark.parametrize("case", NEEDS)
def test_refused_while_something_needs_it_and_forced_leaves_data_of_jobs(
    loopback_sshd: LoopbackSshd, case: str
) -> None:
    says, status, sandbox, node, words = NEEDS[case]
    squeue(loopback_sshd, says, status)
    install(loopback_sshd, OLD)
    if sandbox:
        path = bosco(loopback_sshd) / "sandbox" / sandbox
        path.parent.mkdir(parents=True)
        path.touch()
    if node:
        lease(loopback_sshd, OLD.digest, 7, node)
    before = snapshot(loopback_sshd.home)
    with pytest.raises(BusyError, match=words) as caught:
        take_away(loopback_sshd)
    assert "--force" in caught.value.hint
    assert snapshot(loopback_sshd.home) == before
    report = take_away(loopback_sshd, force=True)
    assert report.needed_by
    jobs_gone = case in ("sandbox", "process elsewhere")
    left = sorted(path.name for path in bosco(loopback_sshd).iterdir()) if bosco(loopback_sshd).exists() else []
    assert left == ([] if jobs_gone else ["log", "sandbox"])
    assert sorted(report.left) == left


def test_what_is_not_ours_stays_and_is_named(loopback_sshd: LoopbackSshd) -> None:
    squeue(loopback_sshd)
    install(loopback_sshd, OLD)
    top = bosco(loopback_sshd)
    (top / "notes").write_text("mine")
    (top / "versions/mine").mkdir()
    (top / "glite.before-gwms-bosco-x").mkdir()
    report = take_away(loopback_sshd)
    assert set(report.left) == {"notes", "versions/mine", "glite.before-gwms-bosco-x"}
    assert {str(path.relative_to(top)) for path in top.rglob("*")} == {"versions", *report.left}


def test_glite_of_somebody_else_stays(loopback_sshd: LoopbackSshd) -> None:
    squeue(loopback_sshd)
    install(loopback_sshd, OLD)
    glite = bosco(loopback_sshd) / "glite"
    glite.unlink()
    glite.symlink_to("/sw/bosco/glite")
    assert take_away(loopback_sshd).left == ("glite",)
    assert glite.readlink() == Path("/sw/bosco/glite")


def test_sandbox_and_log_of_a_hand_made_install_stay(loopback_sshd: LoopbackSshd) -> None:
    squeue(loopback_sshd)
    for name in ("glite", "sandbox", "log"):
        (bosco(loopback_sshd) / name).mkdir(parents=True)
    (bosco(loopback_sshd) / "log/mine").touch()
    before = snapshot(loopback_sshd.home)
    report = take_away(loopback_sshd, force=True)
    assert (report.action, set(report.left)) == ("nothing", {"glite", "log", "sandbox"})
    assert snapshot(loopback_sshd.home) == before


def test_folder_behind_a_link_keeps_the_link_usable(loopback_sshd: LoopbackSshd) -> None:
    """Sites lay ~/bosco on a larger file system; a link to nothing would stop the next deploy."""
    squeue(loopback_sshd)
    (loopback_sshd.home / "scratch").mkdir()
    bosco(loopback_sshd).parent.mkdir()
    bosco(loopback_sshd).symlink_to(loopback_sshd.home / "scratch")
    install(loopback_sshd, OLD)
    assert take_away(loopback_sshd).action == "removed"
    assert list((loopback_sshd.home / "scratch").iterdir()) == []
    install(loopback_sshd, OLD)
    assert_installed(loopback_sshd, OLD)


def test_link_of_another_form_to_a_version_of_ours_is_a_use(loopback_sshd: LoopbackSshd) -> None:
    """Somebody has made `glite` anew by hand, absolute: pilots go through it all the same."""
    squeue(loopback_sshd)
    install(loopback_sshd, OLD)
    glite = bosco(loopback_sshd) / "glite"
    target = (bosco(loopback_sshd) / "versions" / OLD.digest).resolve()
    glite.unlink()
    glite.symlink_to(target)
    before = snapshot(loopback_sshd.home)
    with pytest.raises(BusyError, match="glite, which is no link of ours, leads to version"):
        take_away(loopback_sshd)
    assert snapshot(loopback_sshd.home) == before
    assert take_away(loopback_sshd, force=True).action == "removed"


@pytest.mark.parametrize("name", [b"caf\xe9", "ü".encode() * 150, b"a\nVERSION x", b"\x1b]0;x\x07"])
def test_names_of_others_in_any_encoding_do_not_stop_it(loopback_sshd: LoopbackSshd, name: bytes) -> None:
    squeue(loopback_sshd)
    install(loopback_sshd, OLD)
    Path(os.fsdecode(os.fsencode(bosco(loopback_sshd)) + b"/" + name[:250])).touch()
    report = take_away(loopback_sshd)
    assert report.action == "removed"
    (shown,) = report.left
    assert shown.isprintable()


def test_account_without_an_install_has_nothing_to_remove(loopback_sshd: LoopbackSshd) -> None:
    squeue(loopback_sshd)
    assert take_away(loopback_sshd).action == "nothing"
    assert not bosco(loopback_sshd).exists()
