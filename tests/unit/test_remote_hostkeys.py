# SPDX-License-Identifier: Apache-2.0
"""Host keys are read from a real server and shown with the fingerprint ssh-keygen gives."""

from __future__ import annotations

import subprocess

import pytest

from glideinwms_bosco.errors import RemoteError, UnreachableError
from glideinwms_bosco.remote.hostkeys import parse_key, scan_host_keys
from tests.free_port import ADDRESS, free_port
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd

__all__ = ["loopback_sshd"]


def test_scans_what_the_server_has(loopback_sshd: LoopbackSshd) -> None:
    keys = scan_host_keys(ADDRESS, loopback_sshd.port, 5)
    assert [key.line for key in keys] == [loopback_sshd.host_key]
    argv = ["ssh-keygen", "-l", "-f", str(loopback_sshd.directory / "host_key.pub")]
    printed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert keys[0].fingerprint_sha256 == printed.split()[1]
    assert keys[0].type == "ssh-ed25519"


def test_closed_port_is_unreachable() -> None:
    with pytest.raises(UnreachableError):
        scan_host_keys(ADDRESS, free_port(), 2)


@pytest.mark.parametrize(("host", "port"), [("-oX", 22), ("a b", 22), ("h", 0), ("h", 65536)])
def test_refuses_malformed_place(host: str, port: int) -> None:
    with pytest.raises(RemoteError):
        scan_host_keys(host, port, 1)


def test_refuses_a_key_that_is_none() -> None:
    with pytest.raises(RemoteError, match="a host key that is none"):
        parse_key("ssh-rsa !!!", "h:22")
