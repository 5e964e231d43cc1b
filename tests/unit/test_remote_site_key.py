# SPDX-License-Identifier: Apache-2.0
"""The tunnel's key over a real sshd: made on the site, one line for it, and cut off anywhere the key there works."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from glideinwms_bosco.cli.main import main
from glideinwms_bosco.cli.site_bundles import SiteBundles
from glideinwms_bosco.errors import RemoteError
from glideinwms_bosco.remote.platform import Choice
from glideinwms_bosco.remote.program import load_program
from glideinwms_bosco.remote.site_key import SiteKeyReport, key_marker, place_site_key
from glideinwms_bosco.site.source import HTCondorSource
from tests.free_port import ADDRESS, free_port
from tests.unit.network_text import EGRESS, SSH_EGRESS, closed
from tests.unit.site_text import HOST_KEY, use_host_folders
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd
from tests.unit.test_remote_deploy import OLD, install, snapshot
from tests.unit.test_remote_remove import squeue, take_away
from tests.unit.test_remote_ssh import runtime_directory

__all__ = ["loopback_sshd", "runtime_directory"]

DIR = "site/bosco"
OPTIONS = 'restrict,port-forwarding,command="/bin/false",from="127.0.0.0/8",permitopen="127.0.0.1:7"'
WIDER = OPTIONS.replace('1:7"', '1:8"')
# No line end at the end, and bytes that are no text.
OTHERS = b"ssh-ed25519 AAAA someone@host\n\n# a \xff comment \x00 with any bytes\nssh-rsa BBBB\ttabs  \r\nlast"


@pytest.fixture
def dot_ssh(loopback_sshd: LoopbackSshd) -> Path:
    """The account's own ~/.ssh, which sshd reads too."""
    folder = loopback_sshd.home / ".ssh"
    folder.mkdir(mode=0o700)
    keys = loopback_sshd.directory / "authorized_keys"
    loopback_sshd.restart("Match all", f"AuthorizedKeysFile {keys} {folder / 'authorized_keys'}")
    return folder


def place(
    daemon: LoopbackSshd, options: str = OPTIONS, *, rotate: bool = False, dry_run: bool = False
) -> SiteKeyReport:
    with daemon.session() as session:
        return place_site_key(session, DIR, options, rotate=rotate, dry_run=dry_run)


def key_file(home: Path) -> Path:
    return home / DIR / "egress/id_ed25519"


def public_of(key: Path) -> str:
    argv = ["ssh-keygen", "-y", "-P", "", "-f", str(key)]
    return " ".join(subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()[:2])


def ours(dot_ssh: Path) -> list[bytes]:
    path = dot_ssh / "authorized_keys"
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    return [line for line in lines if line.endswith(key_marker(DIR).encode())]


def line_of(home: Path, options: str = OPTIONS) -> bytes:
    return f"{options} {public_of(key_file(home))} {key_marker(DIR)}".encode()


def litter(home: Path) -> list[str]:
    return [str(path) for path in home.rglob(".*") if path.name not in (".ssh",)]


def test_key_is_made_on_the_site_with_one_line_for_it(loopback_sshd: LoopbackSshd, dot_ssh: Path) -> None:
    (dot_ssh / "authorized_keys").write_bytes(OTHERS)
    (dot_ssh / "authorized_keys").chmod(0o640)
    report = place(loopback_sshd)
    key = key_file(loopback_sshd.home)
    assert (report.action, report.public_key) == ("made", public_of(key))
    assert report.line is not None
    assert key.stat().st_mode & 0o7777 == 0o600
    assert key.parent.stat().st_mode & 0o7777 == 0o700
    assert sorted(path.name for path in key.parent.iterdir()) == ["id_ed25519"]
    assert (dot_ssh / "authorized_keys").read_bytes() == OTHERS + b"\n" + report.line.encode() + b"\n"
    assert (dot_ssh / "authorized_keys").stat().st_mode & 0o7777 == 0o640
    assert litter(loopback_sshd.home) == []


def test_first_authorized_keys_of_an_account_is_private(loopback_sshd: LoopbackSshd) -> None:
    place(loopback_sshd)
    dot_ssh = loopback_sshd.home / ".ssh"
    assert dot_ssh.stat().st_mode & 0o7777 == 0o700
    assert (dot_ssh / "authorized_keys").stat().st_mode & 0o7777 == 0o600
    assert ours(dot_ssh) == [line_of(loopback_sshd.home)]


@pytest.mark.usefixtures("dot_ssh")
def test_second_time_writes_nothing(loopback_sshd: LoopbackSshd) -> None:
    place(loopback_sshd)
    lock = str(loopback_sshd.home / DIR / "lock")
    before = {path: state for path, state in snapshot(loopback_sshd.home).items() if path != lock}
    assert place(loopback_sshd).action == "unchanged"
    assert {path: state for path, state in snapshot(loopback_sshd.home).items() if path != lock} == before


def test_changed_limits_replace_the_line_and_keep_the_key(loopback_sshd: LoopbackSshd, dot_ssh: Path) -> None:
    (dot_ssh / "authorized_keys").write_bytes(OTHERS)
    first = place(loopback_sshd)
    with (dot_ssh / "authorized_keys").open("ab") as keys:
        keys.write(b"ssh-rsa CCCC later\n")
    second = place(loopback_sshd, WIDER)
    assert (second.action, second.public_key) == ("line-changed", first.public_key)
    assert ours(dot_ssh) == [line_of(loopback_sshd.home, WIDER)]
    expected = OTHERS + b"\nssh-rsa CCCC later\n" + line_of(loopback_sshd.home, WIDER) + b"\n"
    assert (dot_ssh / "authorized_keys").read_bytes() == expected


def test_rotation_leaves_the_new_key_alone(loopback_sshd: LoopbackSshd, dot_ssh: Path) -> None:
    (dot_ssh / "authorized_keys").write_bytes(OTHERS)
    old = place(loopback_sshd).public_key
    report = place(loopback_sshd, rotate=True)
    assert report.action == "rotated"
    assert report.public_key == public_of(key_file(loopback_sshd.home)) != old
    assert ours(dot_ssh) == [line_of(loopback_sshd.home)]
    assert (dot_ssh / "authorized_keys").read_bytes().startswith(OTHERS + b"\n")
    assert place(loopback_sshd).action == "unchanged"


@pytest.mark.usefixtures("dot_ssh")
def test_dry_run_changes_nothing_and_says_what_would_be_done(loopback_sshd: LoopbackSshd) -> None:
    before = snapshot(loopback_sshd.home)
    report = place(loopback_sshd, dry_run=True)
    assert (report.action, report.public_key, report.line) == ("would-make", None, None)
    assert snapshot(loopback_sshd.home) == before
    place(loopback_sshd)
    before = snapshot(loopback_sshd.home)
    assert place(loopback_sshd, dry_run=True).action == "unchanged"
    assert place(loopback_sshd, WIDER, dry_run=True).action == "would-change-line"
    assert place(loopback_sshd, rotate=True, dry_run=True).action == "would-rotate"
    assert snapshot(loopback_sshd.home) == before


def test_two_installations_of_an_account_have_a_line_each(loopback_sshd: LoopbackSshd, dot_ssh: Path) -> None:
    place(loopback_sshd)
    with loopback_sshd.session() as session:
        # A name that is the other's, with a pattern's character in place of a dot.
        place_site_key(session, "site/bosco2", OPTIONS)
        place_site_key(session, "site/b.sco", OPTIONS)
    place(loopback_sshd, rotate=True)
    lines = (dot_ssh / "authorized_keys").read_text().splitlines()
    assert sorted(line.split()[-1] for line in lines) == sorted(map(key_marker, (DIR, "site/bosco2", "site/b.sco")))


@pytest.mark.parametrize("absolute", [True, False])
def test_linked_authorized_keys_stays_a_link(loopback_sshd: LoopbackSshd, dot_ssh: Path, absolute: bool) -> None:
    real = loopback_sshd.home / "keys/mine"
    real.parent.mkdir()
    real.write_bytes(OTHERS)
    (dot_ssh / "authorized_keys").symlink_to(real if absolute else "../keys/mine")
    place(loopback_sshd)
    assert (dot_ssh / "authorized_keys").is_symlink()
    assert real.read_bytes() == OTHERS + b"\n" + line_of(loopback_sshd.home) + b"\n"
    assert litter(loopback_sshd.home) == []


def refuse(daemon: LoopbackSshd, words: str, *, rotate: bool = False) -> None:
    """Expect a refusal that leaves everything but the lock file as it was."""
    before = snapshot(daemon.home / ".ssh")
    with pytest.raises(RemoteError, match=words):
        place(daemon, rotate=rotate)
    assert snapshot(daemon.home / ".ssh") == before


def test_authorized_keys_of_another_user_is_refused(loopback_sshd: LoopbackSshd, dot_ssh: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("giving a file away needs root")
    (dot_ssh / "authorized_keys").write_bytes(OTHERS)
    os.chown(dot_ssh / "authorized_keys", 12345, -1)
    refuse(loopback_sshd, "authorized_keys belongs to another user")


def test_folder_in_place_of_authorized_keys_is_refused(loopback_sshd: LoopbackSshd, dot_ssh: Path) -> None:
    (dot_ssh / "authorized_keys").mkdir()
    refuse(loopback_sshd, "is not a file")


@pytest.mark.usefixtures("dot_ssh")
def test_link_in_place_of_the_key_is_refused(loopback_sshd: LoopbackSshd) -> None:
    """The owner's own key must not become the tunnel's, which payloads can read."""
    key = key_file(loopback_sshd.home)
    key.parent.mkdir(parents=True)
    key.symlink_to(loopback_sshd.key_file)
    for rotate in (False, True):
        refuse(loopback_sshd, "is no file of ours", rotate=rotate)
    assert key.is_symlink()


def test_link_in_place_of_the_folder_is_refused(loopback_sshd: LoopbackSshd, dot_ssh: Path) -> None:
    (loopback_sshd.home / DIR).mkdir(parents=True)
    (loopback_sshd.home / DIR / "egress").symlink_to(dot_ssh)
    refuse(loopback_sshd, "is a link or belongs to another user")


def test_damaged_key_is_refused_until_it_is_rotated(loopback_sshd: LoopbackSshd, dot_ssh: Path) -> None:
    place(loopback_sshd)
    key_file(loopback_sshd.home).write_text("")
    with pytest.raises(RemoteError, match="cannot be read as a key") as caught:
        place(loopback_sshd)
    assert "--rotate-site-key" in caught.value.hint
    assert place(loopback_sshd, rotate=True).action == "rotated"
    assert ours(dot_ssh) == [line_of(loopback_sshd.home)]


@pytest.mark.usefixtures("dot_ssh")
def test_key_that_others_could_read_is_closed_and_named(loopback_sshd: LoopbackSshd) -> None:
    place(loopback_sshd)
    key_file(loopback_sshd.home).chmod(0o644)
    assert "mode 644" in place(loopback_sshd, dry_run=True).notes[0]
    assert "rotate it" in place(loopback_sshd).notes[0]
    assert key_file(loopback_sshd.home).stat().st_mode & 0o7777 == 0o600


def test_key_in_a_line_without_our_limits_is_refused(loopback_sshd: LoopbackSshd, dot_ssh: Path) -> None:
    """sshd takes the first line of a key: what somebody has pasted there opens a shell to every payload."""
    report = place(loopback_sshd)
    assert report.public_key is not None
    with (dot_ssh / "authorized_keys").open("a") as keys:
        keys.write(f"# {report.public_key}\n")
    assert place(loopback_sshd).action == "unchanged"
    with (dot_ssh / "authorized_keys").open("a") as keys:
        keys.write(f"{report.public_key} {key_marker(DIR)}\n")
    refuse(loopback_sshd, "in a line that is not ours")


@pytest.mark.parametrize(
    "options", ["", 'from="*"', "restrict", "restrict,pty\nssh-ed25519 AAAA", OPTIONS + " ssh-rsa AAAA", "restrict,a#"]
)
def test_options_that_are_no_limit_are_not_sent(loopback_sshd: LoopbackSshd, options: str) -> None:
    with loopback_sshd.session() as session:
        with pytest.raises(RemoteError, match="do not limit"):
            place_site_key(session, DIR, options)
        assert session.programs_run == 0


@pytest.mark.usefixtures("dot_ssh")
def test_key_opens_the_tunnel_and_no_command(loopback_sshd: LoopbackSshd) -> None:
    port = free_port()
    place(loopback_sshd, OPTIONS.replace(":7", f":{loopback_sshd.port}"))
    base = [
        *("ssh", "-F", "none", "-p", str(loopback_sshd.port), "-i", str(key_file(loopback_sshd.home))),
        *("-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"),
        *("-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=INFO"),
    ]
    host = f"{loopback_sshd.user}@{ADDRESS}"
    command = subprocess.run([*base, host, "echo", "in"], capture_output=True, text=True, timeout=20, check=False)
    assert (command.returncode, command.stdout) == (1, "")
    through = [*base, "-W", f"{ADDRESS}:{loopback_sshd.port}", host]
    opened = subprocess.run(through, input=b"", capture_output=True, timeout=20, check=False)
    assert opened.stdout.startswith(b"SSH-2.0-")
    refused = subprocess.run([*base, "-W", f"{ADDRESS}:{port}", host], capture_output=True, timeout=20, check=False)
    assert refused.returncode != 0
    assert b"prohibited" in refused.stderr


def test_remove_takes_line_and_key_away(loopback_sshd: LoopbackSshd, dot_ssh: Path) -> None:
    squeue(loopback_sshd)
    (dot_ssh / "authorized_keys").write_bytes(OTHERS)
    install(loopback_sshd, OLD)
    place(loopback_sshd)
    assert take_away(loopback_sshd, dry_run=True).site_key
    assert key_file(loopback_sshd.home).exists()
    report = take_away(loopback_sshd)
    assert (report.action, report.site_key, report.left) == ("removed", True, ())
    assert (dot_ssh / "authorized_keys").read_bytes() == OTHERS + b"\n"
    assert not (loopback_sshd.home / DIR).exists()
    assert litter(loopback_sshd.home) == []


def test_remove_takes_the_line_away_when_the_key_is_gone_already(loopback_sshd: LoopbackSshd, dot_ssh: Path) -> None:
    """Somebody may have a copy of it."""
    squeue(loopback_sshd)
    (dot_ssh / "authorized_keys").write_bytes(OTHERS)
    install(loopback_sshd, OLD)
    place(loopback_sshd)
    shutil.rmtree(key_file(loopback_sshd.home).parent)
    assert take_away(loopback_sshd).action == "removed"
    assert (dot_ssh / "authorized_keys").read_bytes() == OTHERS + b"\n"


# Commands that change something: a program may be killed before and after each.
CHANGING = ("chgrp", "chmod", "mkdir", "mv", "rm", "ssh-keygen", "sync", "cat")


class Cutting:
    """The program on this machine, in a home of its own, killed at the n-th command that changes something."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.dot_ssh = self.home / ".ssh"
        self.dot_ssh.mkdir(parents=True)
        (self.dot_ssh / "authorized_keys").write_bytes(OTHERS)
        self.shims = folder / "shims"
        self.shims.mkdir()
        self.count = folder / "count"
        for name in CHANGING:
            shim = self.shims / name
            # kill 0: the shell too, at once.
            shim.write_text(
                f'#!/bin/sh\nset -- {shutil.which(name)} "$@"\nn=$(($(wc -c <"$COUNT") + 1))\nprintf . >>"$COUNT"\n'
                f'[ "$n$WHEN" != "$CUT"before ] || kill -9 0\n"$@"\nstatus=$?\n'
                f'[ "$n$WHEN" != "$CUT"after ] || kill -9 0\nexit $status\n'
            )
            shim.chmod(0o755)

    def run(self, mode: str, cut: int = 0, when: str = "before") -> int:
        """Exit status; -9 when it was killed."""
        self.count.write_bytes(b"")
        parameters = ["n", DIR, "me test", "7200", mode, key_marker(DIR), OPTIONS]
        path = f"{self.shims}:{os.environ['PATH']}"
        environment = {"HOME": str(self.home), "PATH": path, "COUNT": str(self.count), "CUT": str(cut), "WHEN": when}
        done = subprocess.run(
            ["sh", "-c", load_program("begin.sh", "lock.sh", "keys.sh", "site_key.sh")],
            input="".join(f"{line}\n" for line in parameters).encode(),
            env=environment,
            capture_output=True,
            start_new_session=True,
            timeout=60,
            check=False,
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stdout
        return done.returncode

    def check_usable(self) -> None:
        """Others' lines are whole, and the key in place, if there is one, is allowed with its limits."""
        assert (self.dot_ssh / "authorized_keys").read_bytes().startswith(OTHERS)
        if key_file(self.home).exists():
            assert line_of(self.home) in ours(self.dot_ssh)
            assert len(ours(self.dot_ssh)) <= 2

    def check_finished(self) -> None:
        """The next deploy makes everything as it should be."""
        assert self.run("make") == 0
        assert ours(self.dot_ssh) == [line_of(self.home)]
        assert (self.dot_ssh / "authorized_keys").read_bytes() == OTHERS + b"\n" + line_of(self.home) + b"\n"
        assert litter(self.home) == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("mode", ["make", "rotate"])
def test_killed_at_any_step_the_key_in_place_is_allowed(tmp_path: Path, mode: str, when: str) -> None:
    step, killed = 0, True
    while killed:
        step += 1
        folder = tmp_path / str(step)
        folder.mkdir()
        cutting = Cutting(folder)
        if mode == "rotate":
            cutting.check_finished()
        killed = cutting.run(mode, step, when) != 0
        cutting.check_usable()
        cutting.check_finished()
    assert step > 10


def test_line_added_by_somebody_else_meanwhile_stays(tmp_path: Path) -> None:
    """An editor's append between our read and our rename, at each step in turn."""
    for step in range(1, 30):
        folder = tmp_path / str(step)
        folder.mkdir()
        cutting = Cutting(folder)
        keys = cutting.dot_ssh / "authorized_keys"
        keys.write_bytes(OTHERS + b"\n")
        for shim in cutting.shims.iterdir():
            text = shim.read_text().replace("kill -9 0", f"printf 'ssh-rsa NEW\\n' >>{keys}", 1)
            shim.write_text(text)
        assert cutting.run("make", step, "before") == 0
        content = keys.read_bytes()
        assert content.startswith(OTHERS + b"\n")
        rest = sorted(content[len(OTHERS) + 1 :].splitlines())
        assert rest in ([line_of(cutting.home), b"ssh-rsa NEW"], [line_of(cutting.home)])
        if cutting.count.stat().st_size >= step:
            assert b"ssh-rsa NEW" in rest, f"lost at step {step}"


KEY_AUTH = (
    ("tunnel: {auth: hostbased}", "tunnel: {auth: site-key, accept_key_on_site: true}"),
    ("login_hosts: [10.77.1.1, login2]", f"login_hosts: [{ADDRESS}]"),
)


@pytest.fixture
def operator(
    loopback_sshd: LoopbackSshd, dot_ssh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """`remote deploy` of a closed site with these changes; its report."""
    dot_ssh.joinpath("authorized_keys").write_bytes(OTHERS)
    (tmp_path / "host").mkdir()
    host = use_host_folders(tmp_path / "host", monkeypatch)
    for name in ("get", "get_for"):
        monkeypatch.setattr(SiteBundles, name, lambda *_: (OLD, Choice(HTCondorSource(root="/"), "/", ())))
    monkeypatch.setattr(SiteBundles, "depends_on_machine", lambda *_: False)
    login = (f"host: login.example.org\n  host_keys: [\"{HOST_KEY}\"]", (
        f"host: {ADDRESS}\n  port: {loopback_sshd.port}\n  host_keys: [\"{loopback_sshd.host_key}\"]"
    ))  # fmt: skip
    account = ("user: pilot", f"user: {loopback_sshd.user}")

    def run(*options: str, changes: Sequence[tuple[str, str]] = KEY_AUTH) -> dict[str, Any]:
        text = closed(login, account, ("batch:", f"install: {{bosco_dir: {DIR}}}\nbatch:"), *changes)
        (host / "sites.d/jsc.yaml").write_text(text)
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            status = main(["remote", "deploy", "jsc", "--key", str(loopback_sshd.key_file), "--json", *options])
        return {"status": status, **(json.loads(output.getvalue()) if output.getvalue() else {})}

    return run


def test_deploy_makes_the_key_with_the_limits_of_the_site_file(
    operator: Callable[..., dict[str, Any]], loopback_sshd: LoopbackSshd, dot_ssh: Path
) -> None:
    assert operator("--dry-run")["site_key"]["action"] == "would-make"
    assert not key_file(loopback_sshd.home).exists()
    report = operator()
    assert (report["status"], report["site_key"]["action"]) == (0, "made")
    (line,) = ours(dot_ssh)
    assert line.decode() == report["site_key"]["line"]
    assert line.startswith(b'restrict,port-forwarding,command="/bin/false",from="10.77.1.0/24",')
    assert b'permitopen="egress.example.org:80"' in line
    assert "payloads run as the same user" in report["site_key"]["warning"]
    assert report["site_key"]["egress_line"] is None
    assert operator("--rotate-site-key")["site_key"]["action"] == "rotated"


def test_deploy_gives_the_line_for_the_admin_of_an_egress_proxy_of_kind_ssh(
    operator: Callable[..., dict[str, Any]],
) -> None:
    key = operator(changes=(*KEY_AUTH, (EGRESS, SSH_EGRESS), ("web_proxy: egress", "web_proxy: squid")))["site_key"]
    assert key["egress_line"].endswith(f" {key['public_key']} jsc")
    assert 'from="203.0.113.0/28"' in key["egress_line"]
    assert 'permitopen="192.0.2.10:9618",permitopen="192.0.2.11:3128"' in key["egress_line"]


def test_deploy_of_a_site_without_such_a_key_makes_none(
    operator: Callable[..., dict[str, Any]], loopback_sshd: LoopbackSshd
) -> None:
    changes = KEY_AUTH[1:]
    assert operator(changes=changes)["site_key"] is None
    assert not key_file(loopback_sshd.home).exists()
    assert operator("--rotate-site-key", changes=changes)["status"] == 2
