# SPDX-License-Identifier: Apache-2.0
"""Deploy against a real sshd: only what is missing travels, and whatever breaks, the old version keeps working."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Optional

import pytest

from glideinwms_bosco.bundle.manifest import BundleFile, LinkEntry, Manifest, tree_digest
from glideinwms_bosco.bundle.model import Bundle
from glideinwms_bosco.errors import BusyError, ConnectionLostError, PlatformError, RemoteError, RemoteStorageError
from glideinwms_bosco.remote import deploy as deploy_module
from glideinwms_bosco.remote.deploy import STALE_STAGING_S, DeployReport, deploy
from glideinwms_bosco.remote.program import load_program
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd
from tests.unit.test_remote_ssh import connections, runtime_directory, wait_until

__all__ = ["loopback_sshd", "runtime_directory"]

TRUE = Path("/bin/true").read_bytes()
# Does not compress and is larger than all buffers between us and the remote program.
BIG = random.Random(1).randbytes(6_000_000)  # noqa: S311
FILES = {"etc/blah.config": (b"a=1\n", 0o644), "bin/blahpd": (b"#!/bin/sh\nexit 0\n", 0o755)}


def make_bundle(
    files: Mapping[str, tuple[bytes, int]],
    links: Optional[Mapping[str, str]] = None,
    *,
    architecture: str = os.uname().machine,
    glibc_min: str = "2.2",
) -> Bundle:
    contents = {path: BundleFile(content, mode, "test") for path, (content, mode) in sorted(files.items())}
    targets = dict(sorted((links or {}).items()))
    rows = tuple(file.entry(path) for path, file in contents.items())
    link_rows = tuple(LinkEntry(path, target) for path, target in targets.items())
    manifest = Manifest(
        format_version=2, digest=tree_digest(rows, link_rows), batch_system="slurm", bosco_dir="site/bosco",
        htcondor_version="23.9.6", htcondor_platform="x", source="test", architecture=architecture,
        glibc_min=glibc_min, system_libraries=(), remote_commands=("sed",), known_limits=(),
        repairs=(), overrides=(), settings=(), files=rows, links=link_rows,
    )  # fmt: skip
    return Bundle(manifest, contents, targets)


OLD = make_bundle(FILES, {"bin/alias": "blahpd"})
NEW = make_bundle({**FILES, "etc/blah.config": (b"a=2\n", 0o644)}, {"bin/alias": "blahpd"})
LARGE = make_bundle({**FILES, "lib/big": (BIG, 0o644)})


def install(daemon: LoopbackSshd, bundle: Bundle, *, dry_run: bool = False, adopt: bool = False) -> DeployReport:
    with daemon.session() as session:
        return deploy(session, bundle, dry_run=dry_run, adopt=adopt)


def bosco(daemon: LoopbackSshd) -> Path:
    return daemon.home / "site" / "bosco"


def assert_installed(daemon: LoopbackSshd, bundle: Bundle) -> None:
    """Check that `glite` is this version, complete in contents, modes and links."""
    glite = bosco(daemon) / "glite"
    assert str(glite.readlink()) == f"versions/{bundle.digest}"
    for path, file in bundle.files.items():
        assert (glite / path).read_bytes() == file.content
        assert (glite / path).stat().st_mode & 0o7777 == file.mode
    for path, target in bundle.links.items():
        assert str((glite / path).readlink()) == target
    for name in ("sandbox", "log"):
        assert (bosco(daemon) / name).stat().st_mode & 0o777 == 0o700


def leftovers(daemon: LoopbackSshd) -> list[str]:
    return sorted(path.name for path in bosco(daemon).rglob(".*"))


def snapshot(directory: Path) -> dict[str, str]:
    """Return path -> type, mode, change time and content of everything below a directory."""
    found = {}
    for path in sorted(directory.rglob("*")):
        info = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = f"{info.st_mode:o} {info.st_ctime_ns} {hashlib.sha256(content).hexdigest()}"
    return found


def test_installs_into_an_empty_account(loopback_sshd: LoopbackSshd) -> None:
    report = install(loopback_sshd, OLD)
    assert_installed(loopback_sshd, OLD)
    assert leftovers(loopback_sshd) == []
    assert (report.action, report.files_sent, report.previous_digest) == ("installed", 2, None)
    assert report.versions == (OLD.digest,)
    assert report.account == loopback_sshd.endpoint.label
    sums = bosco(loopback_sshd) / "glite" / "manifest.sha256sums"
    subprocess.run(["sha256sum", "-c", "--quiet", sums.name], cwd=sums.parent, check=True)


def test_installed_files_carry_the_time_of_the_deploy(loopback_sshd: LoopbackSshd) -> None:
    """A date of 1970 would make scratch purging remove them."""
    install(loopback_sshd, OLD)
    assert (bosco(loopback_sshd) / "glite/bin/blahpd").stat().st_mtime > loopback_sshd.key_file.stat().st_mtime - 5


def test_unchanged_bundle_runs_one_program_and_writes_nothing(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, OLD)
    before = snapshot(loopback_sshd.home)
    with loopback_sshd.session() as session:
        report = deploy(session, OLD, dry_run=False)
        assert session.programs_run == 1
    assert (report.action, report.files_sent, report.bytes_sent) == ("unchanged", 0, 0)
    assert snapshot(loopback_sshd.home) == before


def test_changed_file_alone_is_sent(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, OLD)
    progress: list[tuple[int, int]] = []
    with loopback_sshd.session() as session:
        report = deploy(session, NEW, dry_run=False, progress=lambda done, total: progress.append((done, total)))
        assert session.programs_run == 2
    assert (report.action, report.files_sent, report.previous_digest) == ("installed", 1, OLD.digest)
    assert progress[0] == (0, report.bytes_sent)
    assert progress[-1] == (report.bytes_sent, report.bytes_sent)
    assert report.versions == tuple(sorted((OLD.digest, NEW.digest)))
    assert_installed(loopback_sshd, NEW)


def test_version_that_is_there_is_only_switched_to(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, OLD)
    install(loopback_sshd, NEW)
    report = install(loopback_sshd, OLD)
    assert (report.action, report.files_sent, report.bytes_sent) == ("switched", 0, 0)
    assert_installed(loopback_sshd, OLD)


@pytest.mark.parametrize("damage", ["content", "missing", "mode", "symlink", "link"])
def test_damaged_version_is_repaired_with_that_file_only(loopback_sshd: LoopbackSshd, damage: str) -> None:
    install(loopback_sshd, OLD)
    path = bosco(loopback_sshd) / "glite" / "bin" / "blahpd"
    untouched = bosco(loopback_sshd) / "glite" / "etc" / "blah.config"
    inode = untouched.stat().st_ino
    if damage == "content":
        path.write_bytes(b"#!/bin/sh\nexit 1\n")
    elif damage == "missing":
        path.unlink()
    elif damage == "mode":
        path.chmod(0o644)
    elif damage == "symlink":
        path.rename(path.with_name("copy"))
        path.symlink_to("copy")
    else:
        path.with_name("alias").unlink()
    report = install(loopback_sshd, OLD)
    assert report.action == "repaired"
    assert report.files_sent == (1 if damage in ("content", "missing", "symlink") else 0)
    assert_installed(loopback_sshd, OLD)
    assert not path.is_symlink()
    assert untouched.stat().st_ino == inode
    assert leftovers(loopback_sshd) == []


def test_missing_log_directory_is_made_again(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, OLD)
    (bosco(loopback_sshd) / "log").rmdir()
    assert install(loopback_sshd, OLD).action == "repaired"
    assert_installed(loopback_sshd, OLD)


@pytest.mark.parametrize(
    ("first", "second", "action"),
    [(None, OLD, "would-install"), (OLD, NEW, "would-install"), (OLD, OLD, "unchanged")],
)
def test_dry_run_changes_nothing(
    loopback_sshd: LoopbackSshd, first: Optional[Bundle], second: Bundle, action: str
) -> None:
    if first:
        install(loopback_sshd, first)
    before = snapshot(loopback_sshd.home)
    report = install(loopback_sshd, second, dry_run=True)
    assert report.action == action
    assert snapshot(loopback_sshd.home) == before
    if action != "unchanged":
        real = install(loopback_sshd, second)
        assert (real.files_sent, real.bytes_sent) == (report.files_sent, report.bytes_sent)


def test_hand_made_directory_is_refused_unless_adopted(loopback_sshd: LoopbackSshd) -> None:
    hand_made = bosco(loopback_sshd) / "glite" / "bin"
    hand_made.mkdir(parents=True)
    (hand_made / "blahpd").write_bytes(b"old")
    before = snapshot(loopback_sshd.home)
    with pytest.raises(RemoteError, match="move it away"):
        install(loopback_sshd, OLD)
    assert snapshot(loopback_sshd.home) == before
    report = install(loopback_sshd, OLD, adopt=True)
    assert_installed(loopback_sshd, OLD)
    (aside,) = bosco(loopback_sshd).glob("glite.before-gwms-bosco-*")
    assert (aside / "bin" / "blahpd").read_bytes() == b"old"
    assert aside.name in " ".join(report.notes)


@pytest.mark.parametrize(
    ("bundle", "words"),
    [
        (make_bundle(FILES, architecture="ppc64le"), (os.uname().machine, "ppc64le")),
        (make_bundle(FILES, glibc_min="9.99"), ("glibc", "9.99", "older")),
    ],
)
def test_other_platform_is_refused_before_anything_is_written(
    loopback_sshd: LoopbackSshd, bundle: Bundle, words: tuple[str, ...]
) -> None:
    with pytest.raises(PlatformError) as caught:
        install(loopback_sshd, bundle)
    assert all(word in caught.value.message for word in words)
    assert list(loopback_sshd.home.iterdir()) == []


def test_program_with_all_libraries_is_accepted(loopback_sshd: LoopbackSshd) -> None:
    bundle = make_bundle({**FILES, "libexec/true": (TRUE, 0o755)})
    install(loopback_sshd, bundle)
    assert_installed(loopback_sshd, bundle)


def test_missing_library_is_named_and_not_switched_to(loopback_sshd: LoopbackSshd, tmp_path: Path) -> None:
    if shutil.which("patchelf") is None:
        pytest.skip("patchelf is not installed")
    program = tmp_path / "program"
    program.write_bytes(TRUE)
    program.chmod(0o755)
    subprocess.run(["patchelf", "--add-needed", "libnowhere.so.7", str(program)], check=True)
    install(loopback_sshd, OLD)
    with pytest.raises(PlatformError, match=r"libexec/program.*libnowhere\.so\.7"):
        install(loopback_sshd, make_bundle({**FILES, "libexec/program": (program.read_bytes(), 0o755)}))
    assert_installed(loopback_sshd, OLD)
    assert [path.name for path in (bosco(loopback_sshd) / "versions").iterdir()] == [OLD.digest]


@pytest.mark.parametrize("at", [1, 1_000_000, 5_000_000])
def test_connection_cut_in_the_transfer_leaves_the_old_version(loopback_sshd: LoopbackSshd, at: int) -> None:
    install(loopback_sshd, OLD)

    def cut(done: int, _total: int) -> None:
        if done >= at:
            loopback_sshd.kill_connections()

    with pytest.raises(ConnectionLostError), loopback_sshd.session() as session:
        deploy(session, LARGE, dry_run=False, progress=cut)
    assert_installed(loopback_sshd, OLD)
    assert not (bosco(loopback_sshd) / "versions" / LARGE.digest).exists()
    report = install(loopback_sshd, LARGE)
    assert (report.action, report.files_sent) == ("installed", 1)
    assert_installed(loopback_sshd, LARGE)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_interrupted_deploy_cleans_up_on_both_sides(loopback_sshd: LoopbackSshd, kind: type[BaseException]) -> None:
    install(loopback_sshd, OLD)

    def interrupt(done: int, _total: int) -> None:
        if done > 1_000_000:
            raise kind

    with pytest.raises(kind), loopback_sshd.session() as session:
        deploy(session, LARGE, dry_run=False, progress=interrupt)
    wait_until(lambda: leftovers(loopback_sshd) == [])
    assert_installed(loopback_sshd, OLD)
    install(loopback_sshd, LARGE)
    assert_installed(loopback_sshd, LARGE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_process_leaves_the_old_version(
    loopback_sshd: LoopbackSshd, runtime_directory: Path, number: signal.Signals
) -> None:
    install(loopback_sshd, OLD)
    code = (
        "import os, sys; from pathlib import Path\n"
        "from tests.unit.test_remote_deploy import LARGE, deploy\n"
        "from glideinwms_bosco.remote.connection import Connection, Endpoint\n"
        "from glideinwms_bosco.remote.ssh import SshSession\n"
        "number, host, port, user, key, file = sys.argv[1:]\n"
        "def progress(done, total):\n"
        "    if done > 1_000_000: os.kill(os.getpid(), int(number))\n"
        "with SshSession(Connection(Endpoint(host, int(port), user, (key,)), (), Path(file))) as session:\n"
        "    deploy(session, LARGE, dry_run=False, progress=progress)\n"
    )
    end = loopback_sshd.endpoint
    argv = [sys.executable, "-c", code, str(int(number)), end.host, str(end.port), end.user, *end.host_keys]
    done = subprocess.run([*argv, str(loopback_sshd.key_file)], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -number
    wait_until(lambda: not connections(loopback_sshd) and leftovers(loopback_sshd) == [])
    assert_installed(loopback_sshd, OLD)
    install(loopback_sshd, LARGE)
    assert_installed(loopback_sshd, LARGE)
    for left in runtime_directory.iterdir():
        shutil.rmtree(left)


def test_old_staging_directory_is_swept_and_a_young_one_stays(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, OLD)
    versions = bosco(loopback_sshd) / "versions"
    for name, age_s in (("old", STALE_STAGING_S + 60), ("young", 60)):
        staging = versions / f".staging-{name}"
        (staging / "tree").mkdir(parents=True)
        since = staging.stat().st_mtime - age_s
        os.utime(staging, (since, since))
    report = install(loopback_sshd, NEW)
    assert leftovers(loopback_sshd) == [".staging-young"]
    assert any(".staging-old" in note for note in report.notes)


@contextlib.contextmanager
def mounted_tmpfs(directory: Path, size: str) -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    argv = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(directory)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no mount allowed here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def test_too_little_space_is_refused_before_sending(loopback_sshd: LoopbackSshd) -> None:
    with mounted_tmpfs(loopback_sshd.home, "4m"):
        install(loopback_sshd, OLD)
        sent: list[int] = []
        with pytest.raises(RemoteStorageError, match=r"kB free.*kB needed"), loopback_sshd.session() as session:
            deploy(session, LARGE, dry_run=False, progress=lambda done, _total: sent.append(done))
        assert sent == []
        assert_installed(loopback_sshd, OLD)


def test_disk_that_fills_up_while_writing_is_cleaned_up(loopback_sshd: LoopbackSshd) -> None:
    filler = loopback_sshd.home / "filler"

    def fill(done: int, _total: int) -> None:
        if done == 0:
            filler.write_bytes(b"x" * 6_000_000)

    with mounted_tmpfs(loopback_sshd.home, "10m"):
        install(loopback_sshd, OLD)
        with pytest.raises(RemoteStorageError) as caught, loopback_sshd.session() as session:
            deploy(session, LARGE, dry_run=False, progress=fill)
        assert str(bosco(loopback_sshd)) in caught.value.message
        assert leftovers(loopback_sshd) == []
        assert_installed(loopback_sshd, OLD)
        filler.unlink()
        install(loopback_sshd, LARGE)
        assert_installed(loopback_sshd, LARGE)


def test_read_only_file_system_is_named(loopback_sshd: LoopbackSshd) -> None:
    with mounted_tmpfs(loopback_sshd.home, "4m"):
        install(loopback_sshd, OLD)
        subprocess.run(["mount", "-o", "remount,ro", str(loopback_sshd.home)], check=True)
        with pytest.raises(RemoteStorageError, match=str(bosco(loopback_sshd))):
            install(loopback_sshd, NEW)
        assert_installed(loopback_sshd, OLD)


def test_of_two_deploys_at_once_one_wins_and_the_other_is_told(loopback_sshd: LoopbackSshd) -> None:
    install(loopback_sshd, OLD)
    # Both have asked what is there before either sends.
    both_asked = threading.Barrier(2, timeout=20)
    reports: list[DeployReport] = []
    refused: list[BusyError] = []
    told = threading.Event()

    def run() -> None:
        def progress(done: int, _total: int) -> None:
            if done == 0:
                both_asked.wait()
            elif done > 1_000_000:
                # The winner is still at work when the other one comes.
                told.wait(2)

        try:
            with loopback_sshd.session() as session:
                reports.append(deploy(session, LARGE, dry_run=False, progress=progress))
        except BusyError as error:
            refused.append(error)
            told.set()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [report.action for report in reports] == ["installed"]
    (error,) = refused
    assert f"{getpass.getuser()}@{socket.gethostname()} is changing this account: deploy since 20" in error.message, (
        error.detail
    )
    assert_installed(loopback_sshd, LARGE)
    assert leftovers(loopback_sshd) == []
    # Nothing of the loser lies inside the winner's version.
    assert {path.name for path in (bosco(loopback_sshd) / "glite").iterdir()} == {
        "bin", "etc", "lib", "manifest.entries", "manifest.sha256sums",
    }  # fmt: skip


def test_noise_of_the_login_shell_does_not_disturb(loopback_sshd: LoopbackSshd) -> None:
    for name in (".bashrc", ".profile", ".bash_profile", ".cshrc"):
        (loopback_sshd.home / name).write_text("echo 'KEY noise'; echo trouble >&2\n")
    csh = shutil.which("tcsh") or shutil.which("csh")
    if csh:
        loopback_sshd.use_shell(csh, "-c")
    install(loopback_sshd, OLD)
    assert_installed(loopback_sshd, OLD)


def test_missing_batch_commands_are_a_note(loopback_sshd: LoopbackSshd) -> None:
    (loopback_sshd.home / ".bash_profile").write_text("PATH=/usr/bin:/bin\n")
    if any(Path(folder, "sbatch").exists() for folder in ("/usr/bin", "/bin")):
        pytest.skip("this machine has Slurm commands")
    (note,) = install(loopback_sshd, OLD).notes
    assert "sbatch" in note
    assert "slurm" in note
    assert "sed" not in note


OPENED = [".", "versions", "version", "version/bin", "version/bin/extra", "sandbox", "log"]


@pytest.mark.parametrize("name", OPENED)
def test_place_that_others_may_write_to_is_closed(loopback_sshd: LoopbackSshd, name: str) -> None:
    install(loopback_sshd, OLD)
    place = bosco(loopback_sshd) / name.replace("version/", f"versions/{OLD.digest}/")
    place = bosco(loopback_sshd) / "versions" / OLD.digest if name == "version" else place
    if name.endswith("extra"):
        place.touch()
    place.chmod(0o777)
    dry = install(loopback_sshd, OLD, dry_run=True)
    assert dry.action == "would-repair"
    assert place.stat().st_mode & 0o777 == 0o777
    report = install(loopback_sshd, OLD)
    assert (report.action, report.files_sent) == ("repaired", 0)
    private = name in ("sandbox", "log")
    assert place.stat().st_mode & 0o777 == (0o700 if private else 0o755)
    (said,) = [note for note in report.notes if "mode 0777" in note]
    assert ("was set to 0700" if private else "was closed to them") in said
    (would,) = [note for note in dry.notes if "mode 0777" in note]
    assert "would be" in would
    assert_installed(loopback_sshd, OLD)
    assert install(loopback_sshd, OLD).action == "unchanged"


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o500])
def test_sandbox_that_others_may_read_is_made_private(loopback_sshd: LoopbackSshd, mode: int) -> None:
    install(loopback_sshd, OLD)
    (bosco(loopback_sshd) / "sandbox").chmod(mode)
    assert install(loopback_sshd, OLD).action == "repaired"
    assert_installed(loopback_sshd, OLD)


@pytest.mark.parametrize("name", [".", "versions", "sandbox", "log", f"versions/{OLD.digest}/bin/blahpd"])
def test_place_of_another_user_is_refused(loopback_sshd: LoopbackSshd, name: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("giving a file away needs root")
    install(loopback_sshd, OLD)
    os.chown(bosco(loopback_sshd) / name, 12345, -1)
    before = snapshot(loopback_sshd.home)
    with pytest.raises(RemoteError, match="belongs to user id 12345"):
        install(loopback_sshd, NEW)
    assert snapshot(loopback_sshd.home) == before


def test_link_to_somewhere_else_is_refused_unless_adopted(loopback_sshd: LoopbackSshd) -> None:
    bosco(loopback_sshd).mkdir(parents=True)
    (bosco(loopback_sshd) / "glite").symlink_to("/sw/bosco/glite")
    before = snapshot(loopback_sshd.home)
    with pytest.raises(RemoteError, match="--adopt") as caught:
        install(loopback_sshd, OLD)
    assert "/sw/bosco/glite" in caught.value.message
    assert snapshot(loopback_sshd.home) == before
    report = install(loopback_sshd, OLD, adopt=True)
    assert_installed(loopback_sshd, OLD)
    (aside,) = bosco(loopback_sshd).glob("glite.before-gwms-bosco-*")
    assert str(aside.readlink()) == "/sw/bosco/glite"
    (note,) = [note for note in report.notes if aside.name in note]
    assert "/sw/bosco/glite" in note
    assert report.previous_digest is None


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("sleep 600", r"hangs \(> 1 s\)"),
        ("exit 0", r"ends the shell \(status 0\)"),
        ("exec /bin/false", r"ends the shell \(status 1\)"),
        ("cat >/dev/null", "reads standard input"),
    ],
)
def test_login_profile_that_starts_no_pilot_is_refused(
    loopback_sshd: LoopbackSshd, monkeypatch: pytest.MonkeyPatch, profile: str, words: str
) -> None:
    monkeypatch.setattr(deploy_module, "PROFILE_TIMEOUT_S", 1)
    (loopback_sshd.home / ".bash_profile").write_text(f"echo noise\n{profile}\n")
    before = snapshot(loopback_sshd.home)
    with pytest.raises(RemoteError, match=words) as caught:
        install(loopback_sshd, OLD)
    assert ".bash_profile" in caught.value.hint
    assert snapshot(loopback_sshd.home) == before


def test_login_profile_may_leave_a_process_behind(loopback_sshd: LoopbackSshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that a profile starts keeps the output open; the deploy must not wait for it."""
    monkeypatch.setattr(deploy_module, "INSPECT_TIMEOUT_S", 10.0)
    (loopback_sshd.home / ".bash_profile").write_text("sleep 600 & echo $! >~/pid\n")
    report = install(loopback_sshd, OLD)
    os.kill(int((loopback_sshd.home / "pid").read_text()), signal.SIGTERM)
    assert report.action == "installed"


def test_profile_is_not_limited_where_there_is_no_timeout_command(loopback_sshd: LoopbackSshd) -> None:
    tools = loopback_sshd.home / "tools"
    tools.mkdir()
    for folder in ("/usr/bin", "/bin"):
        for tool in Path(folder).iterdir():
            if tool.name != "timeout" and not (tools / tool.name).exists():
                (tools / tool.name).symlink_to(tool)
    loopback_sshd.use_shell("/bin/sh", "-c")
    with loopback_sshd.session() as session:
        program = load_program("begin.sh", "inspect.sh").replace(":}/usr/bin:/bin", "}").replace(
            'PATH="${PATH:-}', f'PATH="{tools}'
        )  # fmt: skip
        reply = session.run_script(program, ("site/bosco", "1", "0", "0"))
    assert reply.only("LOGIN") == "complete"


def test_control_characters_of_the_remote_stay_out_of_errors_and_notes(loopback_sshd: LoopbackSshd) -> None:
    bosco(loopback_sshd).mkdir(parents=True)
    (bosco(loopback_sshd) / "glite").symlink_to("/x\x1b]0;title\x07")
    with pytest.raises(RemoteError) as caught:
        install(loopback_sshd, OLD)
    report = install(loopback_sshd, OLD, adopt=True)
    for text in (str(caught.value), *report.notes):
        assert text.isprintable()
    assert "/x?]0;title?" in str(caught.value)
