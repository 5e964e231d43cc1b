# SPDX-License-Identifier: Apache-2.0
"""Host keys proposed for a person to accept."""

from __future__ import annotations

import socket

import pytest

from glideinwms_bosco.broker.learn import accepted, parse_key, propose, scan
from glideinwms_bosco.errors import BrokerError, UnreachableError, UsageError
from tests.free_port import free_port
from tests.unit.broker_text import ENTRY, HOST, as_policy, policy_data, signer
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd

__all__ = ["loopback_sshd"]

ENTRY_NOW = as_policy(policy_data()).entries[ENTRY]
KNOWN, NEW = signer("host").public, signer("new").public


@pytest.mark.parametrize("line", ["x", "ssh-ed25519 AAAA", "ssh-dss AAAAB3NzaC1kc3MAAACB"])
def test_refuses_a_key_that_could_not_be_verified(line: str) -> None:
    with pytest.raises(BrokerError, match="cannot be used"):
        parse_key(line, HOST)


def test_says_what_is_known_new_and_missing() -> None:
    proposal = propose(ENTRY_NOW, HOST.upper(), 22, (KNOWN, NEW))
    assert (proposal.host, proposal.known, proposal.new, proposal.missing) == (HOST, (KNOWN,), (NEW,), ())
    assert not proposal.changed


def test_a_host_that_shows_other_keys_only_has_changed() -> None:
    proposal = propose(ENTRY_NOW, HOST, 22, (NEW,))
    assert (proposal.new, proposal.missing, proposal.changed) == ((NEW,), (KNOWN,), True)


def test_another_port_is_another_host() -> None:
    proposal = propose(ENTRY_NOW, HOST, 2222, (KNOWN,))
    assert (proposal.known, proposal.new, proposal.changed) == ((), (KNOWN,), False)


def test_accepts_only_what_the_host_shows_and_a_person_names() -> None:
    proposal = propose(ENTRY_NOW, HOST, 22, (KNOWN, NEW))
    assert accepted(proposal, [NEW.fingerprint, NEW.fingerprint]) == (NEW,)
    assert accepted(proposal, []) == ()
    with pytest.raises(UsageError, match="does not show"):
        accepted(proposal, [signer("stranger").public.fingerprint])


@pytest.mark.parametrize(("host", "port"), [("-x", 22), ("a b", 22), ("", 22), ("h", 0), ("h", 65536), ("h\n", 22)])
def test_refuses_what_is_no_address(host: str, port: int) -> None:
    with pytest.raises(UsageError, match="no usable address"):
        scan(host, port)


def test_says_when_nothing_listens() -> None:
    with pytest.raises(UnreachableError, match="shows no host key"):
        scan("127.0.0.1", free_port(), timeout_s=2)


def test_says_when_what_listens_is_no_ssh_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(UnreachableError, match="no host key"):
        scan("127.0.0.1", listener.getsockname()[1], timeout_s=1)


def test_asks_a_real_server(loopback_sshd: LoopbackSshd) -> None:
    found = scan("127.0.0.1", loopback_sshd.port)
    assert [key.authorized for key in found] == [loopback_sshd.host_key]
