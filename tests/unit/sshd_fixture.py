# SPDX-License-Identifier: Apache-2.0
"""A real sshd on a free port of the loopback interface, with keys made for the run and a home directory in a temp dir.

Use: `from tests.unit.sshd_fixture import loopback_sshd` in a test module makes the fixture available there.
The daemon runs as the user of the test; `SetEnv HOME` keeps every session out of that user's real home.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import pytest

from glideinwms_bosco.remote.connection import Connection, Endpoint
from glideinwms_bosco.remote.ssh import SshSession
from tests.free_port import ADDRESS, free_port

START_TIMEOUT_S = 10.0


def make_key(path: Path) -> str:
    """Make an ed25519 key pair; return its public half as "TYPE BASE64"."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


def children_of(pid: int) -> list[int]:
    """Return the pids of all living children of a process (Linux); none when it has ended."""
    found: list[int] = []
    # It may end while it is looked at.
    with contextlib.suppress(OSError):
        for children in Path("/proc").glob(f"{pid}/task/*/children"):
            found += [int(word) for word in children.read_text().split()]
    return found


@dataclass
class LoopbackSshd:
    """A running sshd. `home` is HOME of its sessions; `extra` are lines of sshd_config, set before `start`."""

    directory: Path
    home: Path
    port: int
    user: str
    host_key: str
    extra: list[str] = field(default_factory=list)
    process: Optional[subprocess.Popen[bytes]] = None

    @property
    def key_file(self) -> Path:
        return self.directory / "user_key"

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(ADDRESS, self.port, self.user, (self.host_key,))

    @property
    def connection(self) -> Connection:
        return Connection(self.endpoint, (), self.key_file)

    def session(self) -> SshSession:
        return SshSession(self.connection, "loopback")

    def start(self) -> None:
        config = self.directory / "sshd_config"
        lines = [
            f"ListenAddress {ADDRESS}", f"Port {self.port}", f"HostKey {self.directory / 'host_key'}",
            f"AuthorizedKeysFile {self.directory / 'authorized_keys'}", "PidFile none", "UsePAM no", "StrictModes no",
            "PasswordAuthentication no", "KbdInteractiveAuthentication no", "PermitRootLogin yes", "PermitUserRC no",
            "PrintMotd no", "AllowTcpForwarding yes", "LogLevel DEBUG1", f"SetEnv HOME={self.home}", *self.extra,
        ]  # fmt: skip
        config.write_text("\n".join(lines) + "\n")
        sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if sshd is None:
            pytest.skip("sshd is not installed (Debian: openssh-server)")
        argv = [sshd, "-D", "-e", "-f", str(config)]
        with self.log.open("ab") as log:
            before = log.tell()
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._wait(before)

    @property
    def log(self) -> Path:
        return self.directory / "sshd.log"

    def _wait(self, log_before: int) -> None:
        """Wait until it says that it listens, in what its log has from this byte on."""
        assert self.process is not None
        ends_at = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < ends_at:
            if b"Server listening on" in self.log.read_bytes()[log_before:]:
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.02)
                break
        pytest.fail(f"sshd does not start: {self.log.read_text()}")

    def kill_connections(self) -> None:
        """Kill the daemon's processes that serve a connection, as a reboot of the login node would."""
        assert self.process is not None
        for pid in children_of(self.process.pid):
            for below in (*children_of(pid), pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(below, signal.SIGKILL)

    def stop(self) -> None:
        if self.process is not None:
            self.kill_connections()
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self, *extra: str) -> None:
        """Start anew with more lines of sshd_config."""
        self.stop()
        self.extra += extra
        self.start()

    def use_shell(self, *argv: str) -> None:
        """Restart so that commands run under `argv COMMAND` as if argv were the account's login shell."""
        wrapper = self.directory / "shell"
        wrapper.write_text(f'#!/bin/sh\nexec {shlex.join(argv)} "$SSH_ORIGINAL_COMMAND"\n')
        wrapper.chmod(0o755)
        self.restart(f"ForceCommand exec {wrapper}")


def make_sshd(directory: Path) -> LoopbackSshd:
    """Prepare keys and directories of a daemon in an existing directory; the caller starts and stops it."""
    home = directory / "home"
    home.mkdir()
    host_key = make_key(directory / "host_key")
    (directory / "authorized_keys").write_text(make_key(directory / "user_key") + "\n")
    if os.geteuid() == 0:
        # sshd started as root insists on its privilege separation directory.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    return LoopbackSshd(directory, home, free_port(), getpass.getuser(), host_key)


@pytest.fixture
def loopback_sshd(tmp_path: Path) -> Iterator[LoopbackSshd]:
    directory = tmp_path / "sshd"
    directory.mkdir(mode=0o700)
    daemon = make_sshd(directory)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.stop()
