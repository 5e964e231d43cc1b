# SPDX-License-Identifier: Apache-2.0
"""Real logins of ssh at a real sshd: what the agent is sent and what the wire shows parse, verify and fit together."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from glideinwms_bosco.errors import WireError
from glideinwms_bosco.sshwire import agent
from glideinwms_bosco.sshwire.certificate import check_host_certificate, is_certificate, parse_certificate
from glideinwms_bosco.sshwire.kex import KexEvidence, KexReader
from glideinwms_bosco.sshwire.keys import PublicKey, parse_authorized, parse_public_key, signature_algorithms, verify
from glideinwms_bosco.sshwire.userauth import HOSTBOUND, PUBLICKEY, UserauthRequest, build_userauth, parse_userauth
from tests.free_port import ADDRESS
from tests.unit.ssh_material import (
    RealAgent,
    RecordingAgent,
    RecordingPort,
    make_key_pair,
    public_blob,
    sign_certificate,
    ssh_agent,
    ssh_keys,
)
from tests.unit.ssh_version import HAS_SESSION_BIND, needs_session_bind, skip_unknown_key_exchange
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd

__all__ = ["loopback_sshd", "ssh_agent", "ssh_keys"]

HOST_NAME = "login.example.org"


@dataclass(frozen=True)
class Login:
    """What one login showed at both ends of ssh."""

    requests: list[bytes]
    pieces: list[bytes]

    @property
    def binds(self) -> list[agent.SessionBind]:
        parsed = [agent.parse_request(body) for body in self.requests]
        return [request for request in parsed if isinstance(request, agent.SessionBind)]

    @property
    def signing(self) -> agent.SignRequest:
        parsed = [agent.parse_request(body) for body in self.requests]
        (found,) = [request for request in parsed if isinstance(request, agent.SignRequest)]
        return found

    @property
    def userauth(self) -> UserauthRequest:
        return parse_userauth(self.signing.data)

    @property
    def evidence(self) -> list[KexEvidence]:
        reader = KexReader()
        found = [one for piece in self.pieces for one in reader.feed(piece)]
        assert reader.done, "NEWKEYS has come"
        return found


def host_signer(host_key: bytes, ca_blobs: tuple[bytes, ...] = ()) -> PublicKey:
    """The plain key that signs for a host: the certified one if the host shows a certificate."""
    if not is_certificate(host_key):
        return parse_public_key(host_key)
    cert = parse_certificate(host_key)
    check_host_certificate(cert, ca_blobs, (HOST_NAME,), int(time.time()))
    return cert.key


class Site:
    """The loopback sshd, with one user key of the agent authorised, and ways to log in."""

    def __init__(self, daemon: LoopbackSshd, real: RealAgent, keys: Mapping[str, Path], directory: Path) -> None:
        self.daemon = daemon
        self._real = real
        self._keys = keys
        self._directory = directory

    def use_host_key(self, kind: str) -> Path:
        """Make sshd show a key of this kind only."""
        key_file = make_key_pair(self._directory / f"host-{kind}", kind)
        config = self.daemon.directory / "host_key"
        for suffix in ("", ".pub"):
            config.with_name(config.name + suffix).write_bytes(key_file.with_name(key_file.name + suffix).read_bytes())
        self.daemon.restart()
        return config

    def log_in(self, kind: str = "ed25519", *options: str) -> Login:
        """Run `ssh ... true` as a user with the agent's key of this kind; it must succeed."""
        user_key = self._keys[kind].with_name(self._keys[kind].name + ".pub")
        (self.daemon.directory / "authorized_keys").write_text(user_key.read_text())
        with (
            RecordingAgent(self._directory / "a", self._real) as recorder,
            RecordingPort(ADDRESS, self.daemon.port) as port,
        ):
            settings = [
                f"IdentityAgent={recorder.path}", f"IdentityFile={user_key}", "IdentitiesOnly=yes", "BatchMode=yes",
                "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", f"HostKeyAlias={HOST_NAME}",
                f"Port={port.port}", f"User={self.daemon.user}", *options,
            ]  # fmt: skip
            argv = ["ssh", "-F", "none", *(part for line in settings for part in ("-o", line)), ADDRESS, "true"]
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr.decode()
        (self._directory / "a").unlink()
        return Login(recorder.requests, port.pieces)


@pytest.fixture
def site(loopback_sshd: LoopbackSshd, ssh_agent: RealAgent, ssh_keys: Mapping[str, Path], tmp_path: Path) -> Site:
    return Site(loopback_sshd, ssh_agent, ssh_keys, tmp_path)


@needs_session_bind
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa-256", "ecdsa-521", "rsa-3072"])
def test_bind_tap_and_login_prove_the_same_host(kind: str, site: Site) -> None:
    host_key = public_blob(site.use_host_key(kind))
    login = site.log_in()
    (bind,) = login.binds
    assert not bind.is_forwarding
    assert (bind.host_key, bind.session_id) == (host_key, login.userauth.session_id)
    verify(parse_public_key(host_key), bind.signature, bind.session_id)
    assert login.userauth.host_key == host_key
    assert login.evidence == [KexEvidence(host_key, bind.signature)]


@needs_session_bind
def test_host_certificate_comes_through_bind_tap_and_login(site: Site, ssh_keys: Mapping[str, Path]) -> None:
    host_key, ca = site.daemon.directory / "host_key", ssh_keys["rsa-3072"]
    blob = sign_certificate(ca, host_key, "-h", "-I", "host", "-n", HOST_NAME, "-V", "-1m:+1h")
    known_hosts = site.daemon.directory / "known_hosts"
    known_hosts.write_text(f"@cert-authority * {parse_public_key(public_blob(ca)).authorized}\n")
    site.daemon.restart(f"HostCertificate {host_key}-cert.pub")
    login = site.log_in("ed25519", f"UserKnownHostsFile={known_hosts}")
    (bind,) = login.binds
    assert (bind.host_key, login.userauth.host_key) == (blob, blob)
    assert login.evidence == [KexEvidence(blob, bind.signature)]
    verify(host_signer(blob, (public_blob(ca),)), bind.signature, bind.session_id)
    with pytest.raises(WireError, match="not registered"):
        host_signer(blob, (public_blob(host_key),))


@pytest.mark.parametrize(
    ("kind", "option", "algorithm"),
    [
        ("ed25519", "LogLevel=ERROR", "ssh-ed25519"),
        ("ecdsa-384", "LogLevel=ERROR", "ecdsa-sha2-nistp384"),
        # The option's name before OpenSSH 8.5, which younger ones take too.
        ("rsa-3072", "PubkeyAcceptedKeyTypes=rsa-sha2-512", "rsa-sha2-512"),
        ("rsa-2048", "PubkeyAcceptedKeyTypes=rsa-sha2-256", "rsa-sha2-256"),
    ],
)
def test_login_request_says_who_and_with_what(
    kind: str, option: str, algorithm: str, site: Site, ssh_keys: Mapping[str, Path]
) -> None:
    login = site.log_in(kind, option)
    request = login.userauth
    method = HOSTBOUND if HAS_SESSION_BIND else PUBLICKEY
    assert (request.user, request.method, request.algorithm) == (site.daemon.user, method, algorithm)
    assert request.key_blob == login.signing.key_blob == public_blob(ssh_keys[kind])
    assert request.signature_algorithm in signature_algorithms(parse_public_key(request.key_blob))
    assert request.agent_flags == login.signing.flags & (agent.SSH_AGENT_RSA_SHA2_256 | agent.SSH_AGENT_RSA_SHA2_512)
    rebuilt = build_userauth(request.session_id, request.user, algorithm, request.key_blob, request.host_key)
    assert rebuilt == login.signing.data


@needs_session_bind
def test_login_without_host_bound_method_parses(site: Site) -> None:
    request = site.log_in("ed25519", "PubkeyAuthentication=unbound").userauth
    assert (request.method, request.host_key) == (PUBLICKEY, None)


@pytest.mark.parametrize(
    ("algorithm", "sid_bytes"),
    [
        ("curve25519-sha256", 32),
        ("ecdh-sha2-nistp256", 32),
        ("ecdh-sha2-nistp384", 48),
        ("diffie-hellman-group14-sha256", 32),
        ("diffie-hellman-group16-sha512", 64),
        ("diffie-hellman-group-exchange-sha256", 32),
        ("sntrup761x25519-sha512@openssh.com", 64),
    ],
)
def test_tap_reads_every_key_exchange(algorithm: str, sid_bytes: int, site: Site) -> None:
    skip_unknown_key_exchange(algorithm)
    login = site.log_in("ed25519", f"KexAlgorithms={algorithm}")
    session_id = login.userauth.session_id
    assert len(session_id) == sid_bytes
    (evidence,) = login.evidence
    assert evidence.host_key == parse_authorized(site.daemon.host_key).blob
    verify(parse_public_key(evidence.host_key), evidence.signature, session_id)


def test_file_signature_request_is_not_a_login(
    ssh_agent: RealAgent, ssh_keys: Mapping[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("anything")
    with RecordingAgent(tmp_path / "a", ssh_agent) as recorder:
        argv = ["ssh-keygen", "-Y", "sign", "-n", "file", "-f", f"{ssh_keys['ed25519']}.pub", str(tmp_path / "file")]
        subprocess.run(argv, check=True, capture_output=True, timeout=30, env={"SSH_AUTH_SOCK": str(recorder.path)})
    with pytest.raises(WireError):
        _ = Login(recorder.requests, []).userauth
