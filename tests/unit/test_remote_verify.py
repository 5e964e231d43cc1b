# SPDX-License-Identifier: Apache-2.0
"""Verify over a real sshd: each kind of drift is found, named with its file, and nothing else is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from glideinwms_bosco.remote.verify import ALL, Drift, VerifyReport, verify
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd
from tests.unit.test_remote_deploy import FILES, NEW, OLD, TRUE, bosco, install, make_bundle, snapshot
from tests.unit.test_remote_ssh import runtime_directory

__all__ = ["loopback_sshd", "runtime_directory"]
DIR = "site/bosco"


def check(daemon: LoopbackSshd, which: str = "current") -> VerifyReport:
    with daemon.session() as session:
        return verify(session, DIR, which)


def drift_of(report: VerifyReport) -> list[Drift]:
    return [*report.places, *(item for version in report.checks for item in version.drift)]


def test_fresh_install_has_no_drift(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, OLD)
    install(loopback_sshd, NEW)
    before = snapshot(loopback_sshd.home)
    report = check(loopback_sshd)
    assert report.clean, drift_of(report)
    assert [(version.digest, version.complete, version.files) for version in report.checks] == [(NEW.digest, True, 2)]
    assert {version.digest for version in check(loopback_sshd, ALL).checks} == {OLD.digest, NEW.digest}
    assert [version.digest for version in check(loopback_sshd, OLD.digest[:6]).checks] == [OLD.digest]
    assert snapshot(loopback_sshd.home) == before


def _replace(path: Path) -> None:
    path.rename(path.with_name("kept"))
    path.symlink_to("kept")


def _relink(path: Path) -> None:
    path.unlink()
    path.symlink_to("x")


DAMAGE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "content": (lambda top: (top / "etc/blah.config").write_bytes(b"a=9\n"), "etc/blah.config", "changed"),
    "missing": (lambda top: (top / "bin/blahpd").unlink(), "bin/blahpd", "missing"),
    "mode": (lambda top: (top / "bin/blahpd").chmod(0o700), "bin/blahpd", "mode"),
    "type": (lambda top: _replace(top / "bin/blahpd"), "bin/blahpd", "type"),
    "link": (lambda top: _relink(top / "bin/alias"), "bin/alias", "link"),
    "no link": (lambda top: (top / "bin/alias").unlink(), "bin/alias", "missing"),
    "extra": (lambda top: (top / "bin/tool").touch(), "bin/tool", "extra"),
    "extra link": (lambda top: (top / "bin/tool").symlink_to("blahpd"), "bin/tool", "extra"),
    "extra directory": (lambda top: (top / "more").mkdir(), "more", "extra"),
    "blank in name": (lambda top: (top / "bin/a tool").touch(), "bin/a tool", "extra"),
    "line end in name": (lambda top: (top / "bin/a\nFOUND x").touch(), "?", "extra"),
    "writable": (lambda top: (top / "etc").chmod(0o777), "etc", "open"),
    "record": (lambda top: (top / "manifest.entries").write_text("file 644 - - x\n"), "manifest.entries", "record"),
    "name that is no text": (
        lambda top: Path(os.fsdecode(os.fsencode(top) + b"/caf\xe9")).touch(),
        "caf\ufffd",
        "extra",
    ),
    "record of one long line": (
        lambda top: (top / "manifest.entries").write_bytes(b"\xff" * 100_000),
        "manifest.entries",
        "record",
    ),
    "cache elsewhere": (lambda top: (top / "bin/__pycache__").mkdir(), "bin/__pycache__", "extra"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_drift_is_named_with_its_file(loopback_sshd: LoopbackSshd, case: str) -> None:
    install(loopback_sshd, OLD)
    damage, path, kind = DAMAGE[case]
    damage(bosco(loopback_sshd) / "glite")
    assert (path, kind) in {(item.path, item.kind) for item in drift_of(check(loopback_sshd))}
    if case != "extra" and "extra" not in kind:
        install(loopback_sshd, OLD)
        left = {(item.path, item.kind) for item in drift_of(check(loopback_sshd))} - {("bin/kept", "extra")}
        assert left == set(), "deploy repairs it"


def test_record_made_to_fit_a_changed_file_is_not_believed(loopback_sshd: LoopbackSshd) -> None:
    """Attack: who may write in the version changes a program and its line in the record."""
    install(loopback_sshd, OLD)
    glite = bosco(loopback_sshd) / "glite"
    for name in ("manifest.entries", "manifest.sha256sums"):
        text = (glite / name).read_text()
        (glite / name).write_text(text.replace(OLD.manifest.files[0].sha256, NEW.manifest.files[1].sha256))
    (glite / "bin/blahpd").write_bytes(NEW.files["etc/blah.config"].content)
    (item,) = drift_of(check(loopback_sshd))
    assert (item.path, item.kind) == ("manifest.entries", "record")


def test_cache_of_python_is_no_drift_unless_it_is_another_users(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, make_bundle({**FILES, "libexec/blah.py": (b"", 0o644)}))
    cache = bosco(loopback_sshd) / "glite/libexec/__pycache__"
    cache.mkdir()
    (cache / "blah.cpython-313.pyc").touch()
    assert check(loopback_sshd).clean
    (cache / "blah.cpython-313.pyc").chmod(0o666)
    (item,) = drift_of(check(loopback_sshd))
    assert item.kind == "open"


def test_version_without_a_record_is_verified_by_its_sums(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, OLD)
    (bosco(loopback_sshd) / "glite/manifest.entries").unlink()
    report = check(loopback_sshd)
    assert report.clean, drift_of(report)
    assert not report.checks[0].complete
    (bosco(loopback_sshd) / "glite/etc/blah.config").write_bytes(b"")
    assert [(item.path, item.kind) for item in drift_of(check(loopback_sshd))] == [("etc/blah.config", "changed")]


def test_missing_library_is_drift(loopback_sshd: LoopbackSshd) -> None:
    bundle = make_bundle({**FILES, "libexec/true": (TRUE, 0o755)})
    install(loopback_sshd, bundle)
    assert check(loopback_sshd).clean
    record = bosco(loopback_sshd) / "glite/manifest.entries"
    record.write_text("".join(f"{line}\n" for line in record.read_text().splitlines() if not line.startswith("exec")))
    with record.open("a") as stream:
        stream.write("exec - - /lib/ld-gone.so libexec/true\n")
    (item,) = drift_of(check(loopback_sshd))
    assert (item.kind, "ld-gone" in item.text) == ("library", True)


@pytest.mark.parametrize(
    ("name", "mode", "kind"), [("sandbox", 0o755, "mode"), ("leases", 0o777, "mode"), ("versions", 0o777, "open")]
)
def test_place_that_is_open_to_others_is_drift(loopback_sshd: LoopbackSshd, name: str, mode: int, kind: str) -> None:
    install(loopback_sshd, OLD)
    (bosco(loopback_sshd) / name).chmod(mode)
    assert [(item.path, item.kind) for item in check(loopback_sshd).places] == [(name, kind)]


def test_file_of_another_user_is_drift(loopback_sshd: LoopbackSshd) -> None:
    if os.geteuid() != 0:
        pytest.skip("giving a file away needs root")
    install(loopback_sshd, OLD)
    os.chown(bosco(loopback_sshd) / "glite/bin/blahpd", 12345, -1)
    assert [(item.path, item.kind) for item in drift_of(check(loopback_sshd))] == [("bin/blahpd", "owner")]


def test_link_to_a_version_that_is_gone_is_drift(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, OLD)
    (bosco(loopback_sshd) / "glite").unlink()
    (bosco(loopback_sshd) / "glite").symlink_to(f"versions/{NEW.digest}")
    report = check(loopback_sshd)
    assert [(item.path, item.kind) for item in report.places] == [("glite", "link")]
    assert report.checks == ()
