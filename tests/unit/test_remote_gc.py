# SPDX-License-Identifier: Apache-2.0
"""gc over a real sshd: what is current, previous, in use or recent stays; the rest and all leftovers go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from glideinwms_bosco.errors import BusyError
from glideinwms_bosco.remote import gc as gc_module
from glideinwms_bosco.remote.gc import GcReport, collect
from glideinwms_bosco.remote.versions import LEASE_S, account_versions
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd
from tests.unit.test_remote_deploy import FILES, assert_installed, bosco, install, make_bundle, snapshot
from tests.unit.test_remote_ssh import runtime_directory
from tests.unit.test_remote_versions import DIR, lease, process_with

__all__ = ["loopback_sshd", "runtime_directory"]
BUNDLES = [make_bundle({**FILES, "etc/blah.config": (f"a={number}\n".encode(), 0o644)}) for number in range(5)]


def sweep(daemon: LoopbackSshd, *, keep: int = 1, dry_run: bool = False) -> GcReport:
    with daemon.session() as session:
        return collect(session, DIR, keep=keep, dry_run=dry_run)


def install_all(daemon: LoopbackSshd) -> None:
    for number, bundle in enumerate(BUNDLES):
        install(daemon, bundle)
        # One after the other, not five in one second.
        sums = bosco(daemon) / "versions" / bundle.digest / "manifest.sha256sums"
        os.utime(sums, (1_700_000_000 + number, 1_700_000_000 + number))


def there(daemon: LoopbackSshd) -> set[int]:
    digests = [bundle.digest for bundle in BUNDLES]
    return {digests.index(path.name) for path in (bosco(daemon) / "versions").iterdir()}


@pytest.mark.parametrize(("keep", "left"), [(1, {3, 4}), (3, {2, 3, 4}), (4, {1, 2, 3, 4}), (9, {0, 1, 2, 3, 4})])
def test_keeps_current_previous_and_the_last_few(loopback_sshd: LoopbackSshd, keep: int, left: set[int]) -> None:
    install_all(loopback_sshd)
    before = snapshot(loopback_sshd.home)
    dry = sweep(loopback_sshd, keep=keep, dry_run=True)
    assert snapshot(loopback_sshd.home) == before
    report = sweep(loopback_sshd, keep=keep)
    assert there(loopback_sshd) == left
    assert dry.removed == report.removed
    assert set(report.removed) == {BUNDLES[number].digest for number in {0, 1, 2, 3, 4} - left}
    assert_installed(loopback_sshd, BUNDLES[4])


def test_version_in_use_stays(loopback_sshd: LoopbackSshd) -> None:
    install_all(loopback_sshd)
    place = bosco(loopback_sshd).resolve() / "versions" / BUNDLES[0].digest
    lease(loopback_sshd, BUNDLES[1].digest, 7, "login7")
    lease(loopback_sshd, BUNDLES[2].digest, 7, "login7", age_s=2 * LEASE_S)
    with process_with(BLAHPD_LOCATION=str(place)):
        report = sweep(loopback_sshd)
    assert there(loopback_sshd) == {0, 1, 3, 4}
    assert {report.kept[BUNDLES[number].digest] for number in (0, 1)} == {"in use"}
    assert sweep(loopback_sshd).kept.get(BUNDLES[0].digest) is None
    assert there(loopback_sshd) == {1, 3, 4}


def test_version_that_comes_into_use_meanwhile_stays(
    loopback_sshd: LoopbackSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_all(loopback_sshd)

    def look(*arguments: object) -> object:
        found = account_versions(*arguments)  # type: ignore[arg-type]
        lease(loopback_sshd, BUNDLES[0].digest, 7, "login7")
        return found

    monkeypatch.setattr(gc_module, "account_versions", look)
    report = sweep(loopback_sshd)
    assert there(loopback_sshd) == {0, 3, 4}
    assert report.kept[BUNDLES[0].digest] == "in use"
    assert BUNDLES[0].digest not in report.removed


@pytest.mark.parametrize("form", ["{top}/versions/{digest}", "versions/{digest}/", "./versions/{digest}"])
def test_version_behind_a_link_of_another_form_stays(loopback_sshd: LoopbackSshd, form: str) -> None:
    """Somebody has made `glite` anew by hand."""
    install_all(loopback_sshd)
    glite = bosco(loopback_sshd) / "glite"
    glite.unlink()
    glite.symlink_to(form.format(top=bosco(loopback_sshd), digest=BUNDLES[0].digest))
    report = sweep(loopback_sshd)
    assert 0 in there(loopback_sshd)
    assert BUNDLES[0].digest not in report.removed
    assert (glite / "bin/blahpd").exists()


@pytest.mark.parametrize("name", ["a b@1.2@c", "x@1.2@login7", "0" * 64 + "@1.2@a b", "@.@"])
def test_file_that_is_no_lease_says_nothing_and_stays(loopback_sshd: LoopbackSshd, name: str) -> None:
    install_all(loopback_sshd)
    (bosco(loopback_sshd) / "leases" / name).touch()
    assert there(loopback_sshd) == {0, 1, 2, 3, 4}
    sweep(loopback_sshd)
    assert there(loopback_sshd) == {3, 4}
    assert (bosco(loopback_sshd) / "leases" / name).exists()


def test_clock_that_is_far_off_takes_no_version_from_another_node(loopback_sshd: LoopbackSshd, tmp_path: Path) -> None:
    """The asked node believes it is 400 days later; the lease of a gahp on another one was made now."""
    install_all(loopback_sshd)
    lease(loopback_sshd, BUNDLES[0].digest, 7, "login7")
    lease(loopback_sshd, BUNDLES[1].digest, 7, "login7", age_s=2 * LEASE_S)
    (tmp_path / "date").write_text('#!/bin/sh\nexec /bin/date -d "+400 days" "$@"\n')
    (tmp_path / "date").chmod(0o755)
    loopback_sshd.stop()
    loopback_sshd.extra.append("PermitUserEnvironment yes")
    keys = loopback_sshd.directory / "authorized_keys"
    keys.write_text(f'environment="PATH={tmp_path}:{os.environ["PATH"]}" {keys.read_text()}')
    loopback_sshd.start()
    report = sweep(loopback_sshd)
    assert there(loopback_sshd) == {0, 3, 4}
    assert report.kept[BUNDLES[0].digest] == "in use"


def test_leftovers_go_whatever_their_age(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, BUNDLES[0])
    top = bosco(loopback_sshd)
    (top / "versions/.staging-x/tree").mkdir(parents=True)
    (top / ".glite-x").symlink_to("versions/x")
    (top / ".history-x").touch()
    mine = top / ".mine"
    mine.touch()
    old = lease(loopback_sshd, BUNDLES[0].digest, 7, "login7", age_s=2 * LEASE_S)
    assert set(sweep(loopback_sshd).swept) == {"versions/.staging-x", ".glite-x", ".history-x"}
    assert [path.name for path in top.rglob(".*")] == [".mine"]
    assert not old.exists()
    assert sweep(loopback_sshd).swept == ()


def test_account_that_another_operator_changes_is_left_alone(loopback_sshd: LoopbackSshd) -> None:
    install_all(loopback_sshd)
    top = bosco(loopback_sshd)
    holder = f"{os.getpid()} {Path('/proc/self/stat').read_text().rpartition(')')[2].split()[19]}"
    (top / "lock.d").mkdir()
    (top / "lock.d/holder").write_text(f"1700000000 {holder} {os.uname().nodename} ann@factory deploy\n")
    with pytest.raises(BusyError, match=r"ann@factory is changing this account: deploy since 2023-11-14 22:13:20 UTC"):
        sweep(loopback_sshd)
    assert there(loopback_sshd) == {0, 1, 2, 3, 4}
