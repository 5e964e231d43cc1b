# SPDX-License-Identifier: Apache-2.0
"""Keys, agents and waits for the broker's tests; all with the real OpenSSH programs."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glideinwms_bosco.sshwire.keys import PublicKey, parse_authorized

KINDS = {"ed25519": (), "ecdsa": ("-b", "384"), "rsa": ("-b", "2048")}
WAIT_S = 20.0


def make_ssh_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> PublicKey:
    """Make a key pair; encrypted with few rounds, for tests decrypt often."""
    argv = ["ssh-keygen", "-q", "-a", "2", "-t", kind, *KINDS[kind], "-N", passphrase, "-C", "", "-f", str(path)]
    subprocess.run(argv, check=True)
    return parse_authorized(path.with_suffix(".pub").read_text())


def secret_file(path: Path, text: str) -> str:
    """Write a passphrase file; return it as a policy names it."""
    path.touch(0o600)
    path.write_text(text)
    return f"file:{path}"


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something to become true."""
    ends_at = asyncio.get_running_loop().time() + WAIT_S
    while not holds():
        assert asyncio.get_running_loop().time() < ends_at, "it does not come to be"
        await asyncio.sleep(0.01)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name, whatever pytest's own is like."""
    with tempfile.TemporaryDirectory(prefix="gwms-") as name:
        yield Path(name)
