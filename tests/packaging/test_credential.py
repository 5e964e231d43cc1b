# SPDX-License-Identifier: Apache-2.0
"""docs/frontend.md seals a passphrase for the broker: its block is run by systemd's own programs, word for word."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging.rpm_root import RpmRoot
from tests.pages import Step, steps_of

(STEP,) = [step for step in steps_of("frontend.md") if step.kind == "systemd"]
NAME, _ = STEP.credential
UNIT = "gwms-ssh-broker.service"
DROP_IN = f"etc/systemd/system/{UNIT}.d/example.conf"
PASSPHRASE = "not for everybody"


class Frontend:
    """A frontend host's folders; nobody types a passphrase, and no systemd is told to reload."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.keys = folder / "keys"
        self.root = root
        self.bin = folder / "bin"
        self.calls = folder / "calls"
        # The host's own secret, in the place of /var/lib/systemd/credential.secret, which stays as it is.
        self.environment = {**os.environ, "SYSTEMD_CREDENTIAL_SECRET": str(folder / "secret"), "LC_ALL": "C"}
        for path in (self.keys, self.bin):
            path.mkdir()
        self._program("systemd-ask-password", f"printf '%s' '{PASSPHRASE}'")
        self._program("systemctl", f'echo "$*" >> {self.calls}')

    def _program(self, name: str, line: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{line}\n")
        (self.bin / name).chmod(0o755)

    def creds(self, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
        argv = ["systemd-creds", *words]
        return subprocess.run(
            argv, input=text, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )

    def follow(self, step: Step) -> None:
        """Run the block with folders of this host."""
        places = {"/etc/gwms-ssh-broker": str(self.keys), "/etc/systemd/system": f"{self.root}/etc/systemd/system"}
        environment = {**self.environment, "PATH": f"{self.bin}:{os.environ['PATH']}"}
        subprocess.run(["sh", "-e", "-c", step.filled(places)], env=environment, timeout=60, check=True)


@pytest.fixture
def frontend(tmp_path: Path, changeable: RpmRoot) -> Frontend:
    host = Frontend(tmp_path, changeable.top)
    if shutil.which("systemd-creds") is None:
        pytest.skip("systemd-creds came with systemd 250")
    tried = host.creds("encrypt", "--name=trial", "-", "-", text="x")
    if tried.returncode:
        pytest.skip(f"systemd-creds seals nothing on this machine: {tried.stderr.strip()}")
    return host


def test_page_seals_the_passphrase_for_the_broker_alone(frontend: Frontend) -> None:
    frontend.follow(STEP)
    sealed = frontend.keys / f"{NAME}.cred"
    assert PASSPHRASE not in sealed.read_text()
    assert frontend.creds("decrypt", f"--name={NAME}", str(sealed), "-").stdout == PASSPHRASE
    assert frontend.creds("decrypt", "--name=other", str(sealed), "-").returncode != 0
    assert frontend.calls.read_text() == "daemon-reload\n"


def test_unit_takes_the_drop_in_of_the_page(frontend: Frontend) -> None:
    frontend.follow(STEP)
    written = frontend.root / DROP_IN
    assert written.read_text() == f"[Service]\nLoadCredentialEncrypted={NAME}:{frontend.keys}/{NAME}.cred\n"
    for target in Path("/usr/lib/systemd/system").glob("*.target"):
        shutil.copy(target, frontend.root / "usr/lib/systemd/system")
    assert verified(frontend.root) == (0, "")
    written.write_text(written.read_text().replace("Credential", "Credentials"))
    assert "LoadCredentialsEncrypted" in verified(frontend.root)[1], "the drop-in is not read"


def verified(root: Path) -> tuple[int, str]:
    """Exit status and words of `systemd-analyze verify` of the unit with its drop-ins."""
    argv = ["systemd-analyze", "--man=no", f"--root={root}", "verify", UNIT]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr
