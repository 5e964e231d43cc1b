# SPDX-License-Identifier: Apache-2.0
"""A login request: one exact form is taken, anything else a key might be asked to sign is refused."""

from __future__ import annotations

from typing import Optional

import pytest

from glideinwms_bosco.errors import WireError
from glideinwms_bosco.sshwire import userauth
from glideinwms_bosco.sshwire.agent import MAX_KEY_BLOB_BYTES
from glideinwms_bosco.sshwire.primitives import byte, string, text
from glideinwms_bosco.sshwire.userauth import HOSTBOUND, METHODS, PUBLICKEY, build_userauth, parse_userauth
from tests.unit.ssh_builder import CertificateFields, Ed25519Signer, ecdsa_blob, rsa_blob

KEY = Ed25519Signer(1).blob
HOST_KEY = Ed25519Signer(2).blob


def request(
    sid: bytes = b"i" * 32,
    kind: bytes = b"\x32",
    user: bytes = b"cmspilot",
    service: bytes = b"ssh-connection",
    method: bytes = b"publickey",
    flag: bytes = b"\1",
    algorithm: bytes = b"ssh-ed25519",
    key: bytes = KEY,
    tail: bytes = b"",
) -> bytes:
    return (
        string(sid) + kind + string(user) + string(service) + string(method) + flag + string(algorithm) + string(key)
        + tail
    )  # fmt: skip


BOUND = HOSTBOUND.encode()


@pytest.mark.parametrize("size", [20, 32, 48, 64])
def test_reads_a_login(size: int) -> None:
    parsed = parse_userauth(request(sid=b"i" * size))
    assert (parsed.session_id, parsed.user, parsed.method) == (b"i" * size, "cmspilot", PUBLICKEY)
    assert (parsed.algorithm, parsed.key_blob, parsed.host_key) == ("ssh-ed25519", KEY, None)


def test_reads_a_host_bound_login() -> None:
    parsed = parse_userauth(request(method=BOUND, tail=string(HOST_KEY)))
    assert (parsed.method, parsed.host_key) == (HOSTBOUND, HOST_KEY)


@pytest.mark.parametrize("host_key", [None, HOST_KEY])
def test_written_request_reads_back(host_key: Optional[bytes]) -> None:
    data = build_userauth(b"i" * 64, "p\u00e9ter", "ssh-ed25519", KEY, host_key)
    parsed = parse_userauth(data)
    assert (parsed.user, parsed.host_key) == ("p\u00e9ter", host_key)
    assert parsed.method in METHODS
    assert build_userauth(parsed.session_id, parsed.user, parsed.algorithm, parsed.key_blob, parsed.host_key) == data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "cut off"),
        (request(tail=b"\0"), "too many"),
        (request()[:-1], "cut off"),
        (request(tail=string(HOST_KEY)), "too many"),
        (request(method=BOUND), "cut off"),
        (request(method=BOUND, tail=string(HOST_KEY) + b"\0"), "too many"),
        (request(method=BOUND, tail=string(b"")), "host key"),
        (request(method=BOUND, tail=string(bytes(MAX_KEY_BLOB_BYTES + 1))), "host key"),
        (request(method=BOUND, tail=string(b"K")), "host key"),
        *[(request(sid=bytes(size)), "session id") for size in (0, 16, 19, 21, 31, 33, 63, 65, 128)],
        (request(kind=b"\x33"), "message type"),
        (request(kind=b"\x50"), "message type"),
        (request(user=b""), "user"),
        (request(user=b"a" * 256), "user"),
        (request(user=b"cms\0pilot"), "user"),
        (request(user=b"cms\npilot"), "user"),
        (request(user=b"\xff"), "UTF-8"),
        (request(service=b"ssh-userauth"), "service"),
        (request(service=b"ssh-connection\0"), "service"),
        (request(method=b"hostbased"), "method"),
        (request(method=b"password"), "method"),
        (request(method=b"PUBLICKEY"), "method"),
        (request(method=b"publickey-hostbound-v01@openssh.com", tail=string(HOST_KEY)), "method"),
        (request(flag=b"\0"), "no signature"),
        (request(flag=b"\2"), "boolean"),
        (request(algorithm=b""), "algorithm"),
        (request(algorithm=b"a" * 65), "algorithm"),
        (request(key=b""), "key"),
        (request(key=bytes(MAX_KEY_BLOB_BYTES + 1)), "key"),
        (request(key=b"K"), "cut off"),
        (b"SSHSIG" + text("file") + text("") + text("sha512") + string(bytes(64)), "cut off"),
        (string(b"i" * 32) + text("hostkeys-prove-00@openssh.com") + string(KEY), "message type"),
        (CertificateFields().blob(), "message type"),
        (KEY, "session id"),
        (string(request()), "session id"),
    ],
)
def test_refuses_everything_else(data: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        parse_userauth(data)


@pytest.mark.parametrize("cut", range(0, len(request(method=BOUND, tail=string(HOST_KEY)))))
def test_refuses_every_shortened_request(cut: int) -> None:
    with pytest.raises(WireError):
        parse_userauth(request(method=BOUND, tail=string(HOST_KEY))[:cut])


def test_size_is_bounded() -> None:
    with pytest.raises(WireError, match="at most"):
        parse_userauth(bytes(userauth.MAX_USERAUTH_BYTES + 1))
    with pytest.raises(WireError, match="session id"):
        parse_userauth(bytes(userauth.MAX_USERAUTH_BYTES))


def test_largest_keys_fit() -> None:
    key = text("x") + bytes(MAX_KEY_BLOB_BYTES - 5)
    data = build_userauth(b"i" * 64, "u" * 255, "a" * 64, key, key)
    assert parse_userauth(data).host_key == key


CERT = CertificateFields().blob()
RSA_CERT = text("ssh-rsa-cert-v01@openssh.com") + byte(0)


@pytest.mark.parametrize(
    ("algorithm", "key", "signature_algorithm", "flags"),
    [
        ("ssh-ed25519", KEY, "ssh-ed25519", 0),
        ("ecdsa-sha2-nistp256", ecdsa_blob("nistp256"), "ecdsa-sha2-nistp256", 0),
        ("ecdsa-sha2-nistp521", ecdsa_blob("nistp521"), "ecdsa-sha2-nistp521", 0),
        ("rsa-sha2-256", rsa_blob(), "rsa-sha2-256", 2),
        ("rsa-sha2-512", rsa_blob(), "rsa-sha2-512", 4),
        ("ssh-ed25519-cert-v01@openssh.com", CERT, "ssh-ed25519", 0),
        ("rsa-sha2-256-cert-v01@openssh.com", RSA_CERT, "rsa-sha2-256", 2),
        ("rsa-sha2-512-cert-v01@openssh.com", RSA_CERT, "rsa-sha2-512", 4),
    ],
)
def test_names_the_signature_algorithm(algorithm: str, key: bytes, signature_algorithm: str, flags: int) -> None:
    parsed = parse_userauth(build_userauth(b"i" * 32, "u", algorithm, key))
    assert (parsed.signature_algorithm, parsed.agent_flags) == (signature_algorithm, flags)


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("rsa-sha2-512", KEY),
        ("ssh-ed25519", rsa_blob()),
        ("ssh-rsa", rsa_blob()),
        ("ssh-rsa-cert-v01@openssh.com", RSA_CERT),
        ("rsa-sha2-512", RSA_CERT),
        ("rsa-sha2-512-cert-v01@openssh.com", rsa_blob()),
        ("ssh-ed25519-cert-v01@openssh.com", KEY),
        ("ssh-ed25519", CERT),
        ("ecdsa-sha2-nistp256", ecdsa_blob("nistp384")),
        ("ecdsa-sha2-nistp384", KEY),
        ("ssh-dss", text("ssh-dss")),
        ("none", text("none")),
    ],
)
def test_refuses_algorithm_that_does_not_fit_the_key(algorithm: str, key: bytes) -> None:
    parsed = parse_userauth(build_userauth(b"i" * 32, "u", algorithm, key))
    with pytest.raises(WireError, match="does not fit"):
        _ = parsed.signature_algorithm
    with pytest.raises(WireError, match="does not fit"):
        _ = parsed.agent_flags
