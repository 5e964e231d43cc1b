# SPDX-License-Identifier: Apache-2.0
"""The versions of an account over a real sshd: which there are, who uses them, and the way back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from glideinwms_bosco.errors import RemoteError
from glideinwms_bosco.remote.messages import Message, MessageFormatError, Reply
from glideinwms_bosco.remote.rollback import rollback
from glideinwms_bosco.remote.versions import (
    LEASE_S,
    AccountVersions,
    account_versions,
    find_version,
    parse_versions,
    previous_digest,
)
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd
from tests.unit.test_remote_deploy import FILES, NEW, OLD, bosco, install, make_bundle, snapshot
from tests.unit.test_remote_ssh import runtime_directory

__all__ = ["loopback_sshd", "runtime_directory"]

THIRD = make_bundle({**FILES, "etc/blah.config": (b"a=3\n", 0o644)})
DIR = "site/bosco"


def look(daemon: LoopbackSshd) -> AccountVersions:
    with daemon.session() as session:
        return account_versions(session, DIR)


def lease(daemon: LoopbackSshd, digest: str, pid: int, node: str, *, age_s: int = 0, start: str = "1") -> Path:
    path = bosco(daemon) / "leases" / f"{digest}@{pid}.{start}@{node}"
    path.touch()
    since = time.time() - age_s
    os.utime(path, (since, since))
    return path


@contextmanager
def process_with(**environment: str) -> Iterator[int]:
    """A process of the account with this environment."""
    argv = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **environment})
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield process.pid
    finally:
        process.communicate()


def start_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def test_empty_account_has_nothing(loopback_sshd: LoopbackSshd) -> None:
    found = look(loopback_sshd)
    assert (found.folder, found.versions, found.current, found.foreign) == (None, (), None, ())


def test_versions_tell_what_they_are(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, OLD)
    install(loopback_sshd, NEW)
    before = snapshot(loopback_sshd.home)
    found = look(loopback_sshd)
    assert snapshot(loopback_sshd.home) == before
    assert {version.digest for version in found.versions} == {OLD.digest, NEW.digest}
    assert (found.current, found.previous) == (NEW.digest, OLD.digest)
    for version in found.versions:
        assert version.htcondor == "23.9.6"
        assert abs(version.installed_at - time.time()) < 60
        assert version.size_kb > 0
        assert version.current == (version.digest == NEW.digest)
        assert version.uses == ()
    assert (found.foreign, found.leftovers) == ((), ())


def test_process_that_has_the_version_in_its_environment_uses_it(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, OLD)
    install(loopback_sshd, NEW)
    place = bosco(loopback_sshd).resolve() / "versions" / OLD.digest
    with process_with(GLITE_LOCATION=str(place)) as pid:
        uses = {use.digest: use for use in look(loopback_sshd).uses}
    assert list(uses) == [OLD.digest]
    assert (uses[OLD.digest].pid, uses[OLD.digest].certain) == (pid, True)
    assert look(loopback_sshd).uses == ()


def test_process_that_runs_from_the_version_uses_it(loopback_sshd: LoopbackSshd) -> None:
    bundle = make_bundle({**FILES, "libexec/cat": (Path("/bin/cat").read_bytes(), 0o755)})
    install(loopback_sshd, bundle)
    argv = ["cat"]
    program = str(bosco(loopback_sshd) / "glite/libexec/cat")
    with subprocess.Popen(argv, executable=program, stdin=subprocess.PIPE) as process:
        (use,) = look(loopback_sshd).uses
        process.communicate()
    assert (use.digest, use.pid, use.name) == (bundle.digest, process.pid, "cat")


def test_other_install_of_the_same_account_is_not_meant(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, OLD)
    with process_with(GLITE_LOCATION=f"{loopback_sshd.home}/other/versions/{OLD.digest}"):
        assert look(loopback_sshd).uses == ()


def test_lease_of_this_node_counts_while_its_process_lives(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, OLD)
    node = os.uname().nodename
    with process_with() as pid:
        lease(loopback_sshd, OLD.digest, pid, node, start=start_of(pid), age_s=10 * LEASE_S)
        # The same pid once more, of a process that was there before.
        lease(loopback_sshd, OLD.digest, pid, node, start="1")
        found = look(loopback_sshd)
        assert [(use.pid, use.node, use.certain) for use in found.uses] == [(pid, node, True)]
        assert found.stale_leases == 1
    assert look(loopback_sshd).uses == ()


@pytest.mark.parametrize(("age_s", "counts"), [(LEASE_S - 60, True), (LEASE_S + 60, False), (-86400, True)])
def test_lease_of_another_node_counts_until_it_is_old(loopback_sshd: LoopbackSshd, age_s: int, counts: bool) -> None:
    install(loopback_sshd, OLD)
    lease(loopback_sshd, OLD.digest, 7, "login7.site", age_s=age_s)
    found = look(loopback_sshd)
    assert [(use.node, use.certain) for use in found.uses] == ([("login7.site", False)] if counts else [])
    assert found.stale_leases == (0 if counts else 1)


def test_deploy_sweeps_leases_that_say_nothing(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, OLD)
    old = lease(loopback_sshd, OLD.digest, 7, "login7", age_s=2 * LEASE_S)
    young = lease(loopback_sshd, OLD.digest, 8, "login7")
    install(loopback_sshd, NEW)
    assert (old.exists(), young.exists()) == (False, True)


def test_what_is_not_ours_and_what_is_left_over_is_named(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, OLD)
    (bosco(loopback_sshd) / "notes\x1b[1m\nVERSION").touch()
    (bosco(loopback_sshd) / "versions/.staging-x").mkdir()
    (bosco(loopback_sshd) / "versions/mine").mkdir()
    found = look(loopback_sshd)
    assert found.foreign == ("notes?[1m?VERSION", "versions/mine")
    assert found.leftovers == ("versions/.staging-x",)


def test_history_tells_the_way_back_after_several_switches(loopback_sshd: LoopbackSshd) -> None:
    for bundle in (OLD, NEW, THIRD):
        install(loopback_sshd, bundle)
    with loopback_sshd.session() as session:
        assert rollback(session, DIR).digest == NEW.digest
        assert rollback(session, DIR, OLD.digest[:8]).digest == OLD.digest
        assert rollback(session, DIR).digest == NEW.digest
    assert [line.split()[1] for line in (bosco(loopback_sshd) / "history").read_text().splitlines()] == [
        OLD.digest, NEW.digest, THIRD.digest, NEW.digest, OLD.digest, NEW.digest,
    ]  # fmt: skip


def test_history_is_bounded(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, OLD)
    (bosco(loopback_sshd) / "history").write_text(f"1 {NEW.digest}\n2 {OLD.digest}\n" * 200)
    install(loopback_sshd, NEW)
    assert len((bosco(loopback_sshd) / "history").read_text().splitlines()) == 100


A, B, C = "a" * 64, "b" * 64, "c" * 64


@pytest.mark.parametrize(
    ("history", "current", "there", "expected"),
    [
        ([A, B], B, [A, B], A),
        ([A], B, [A, B], A),  # cut off after the link was moved
        ([A, B, C], C, [A, C], A),  # B was collected
        ([A], A, [A, B], None),
        ([], A, [A], None),
        ([A, B], None, [A, B], B),
    ],
)
def test_previous_version(history: list[str], current: str, there: list[str], expected: str) -> None:
    assert previous_digest([f"1 {digest}" for digest in history], current, there) == expected


@pytest.mark.parametrize(("prefix", "words"), [("ab", "no version begins"), ("a", "several versions begin")])
def test_beginning_of_a_digest_must_name_one_version(prefix: str, words: str) -> None:
    with pytest.raises(RemoteError, match=words):
        find_version([A, "a" * 63 + "b"], prefix, "here")


def test_answer_of_another_form_is_refused() -> None:
    lines = [("NODE", "n"), ("NOW", "1"), ("VERSION", f"{A} x 1")]
    with pytest.raises(MessageFormatError, match="VERSION"):
        parse_versions(Reply("", True, True, tuple(Message(*line) for line in lines)), "a@b:22")
