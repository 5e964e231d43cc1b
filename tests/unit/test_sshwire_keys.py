# SPDX-License-Identifier: Apache-2.0
"""Public keys and signatures: what ssh-keygen and ssh-agent make is taken, every other form is refused."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

import pytest

from glideinwms_bosco.errors import WireError
from glideinwms_bosco.sshwire import agent
from glideinwms_bosco.sshwire.keys import (
    MAX_AUTHORIZED_CHARS,
    MAX_KEY_BYTES,
    MAX_SIGNATURE_BYTES,
    fingerprint,
    parse_authorized,
    parse_public_key,
    signature_algorithms,
    verify,
)
from glideinwms_bosco.sshwire.primitives import Reader, byte, mpint, string, text
from tests.unit.ssh_builder import Ed25519Signer, ecdsa_blob, ecdsa_fields, rsa_blob
from tests.unit.ssh_material import KEY_KINDS, RealAgent, keygen, public_blob, ssh_agent, ssh_keys

__all__ = ["ssh_agent", "ssh_keys"]

BITS = {"ed25519": 256, "ecdsa-256": 256, "ecdsa-384": 384, "ecdsa-521": 521, "rsa-2048": 2048, "rsa-3072": 3072}
# kind, flags of the sign request, algorithm of the signature
SIGNATURES = [
    ("ed25519", 0, "ssh-ed25519"),
    ("ed25519", agent.SSH_AGENT_RSA_SHA2_512, "ssh-ed25519"),
    ("ecdsa-256", 0, "ecdsa-sha2-nistp256"),
    ("ecdsa-384", 0, "ecdsa-sha2-nistp384"),
    ("ecdsa-521", 0, "ecdsa-sha2-nistp521"),
    ("rsa-2048", agent.SSH_AGENT_RSA_SHA2_256, "rsa-sha2-256"),
    ("rsa-2048", agent.SSH_AGENT_RSA_SHA2_512, "rsa-sha2-512"),
    ("rsa-3072", agent.SSH_AGENT_RSA_SHA2_256, "rsa-sha2-256"),
    ("rsa-3072", agent.SSH_AGENT_RSA_SHA2_512, "rsa-sha2-512"),
]
MESSAGE = b"the bytes that are signed"


def signed(real: RealAgent, key_file: Path, flags: int) -> bytes:
    return agent.parse_signature(real.request(agent.sign_request(public_blob(key_file), MESSAGE, flags)))


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_takes_keys_of_ssh_keygen_and_agrees_on_size_and_fingerprint(kind: str, ssh_keys: Mapping[str, Path]) -> None:
    key = parse_public_key(public_blob(ssh_keys[kind]))
    listed = keygen("-l", "-f", str(ssh_keys[kind])).split()
    assert (str(key.bits), key.fingerprint) == (listed[0], listed[1])
    assert key.bits == BITS[kind]
    assert fingerprint(key.blob) == key.fingerprint


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_reads_a_pub_file_and_writes_its_first_two_words(kind: str, ssh_keys: Mapping[str, Path]) -> None:
    line = ssh_keys[kind].with_suffix(".pub").read_text()
    key = parse_authorized(line)
    assert key.authorized == " ".join(line.split()[:2])
    assert parse_authorized(key.authorized) == key


@pytest.mark.parametrize(("kind", "flags", "algorithm"), SIGNATURES)
def test_verifies_what_the_agent_signed_and_nothing_else(
    kind: str, flags: int, algorithm: str, ssh_keys: Mapping[str, Path], ssh_agent: RealAgent
) -> None:
    key = parse_public_key(public_blob(ssh_keys[kind]))
    signature = signed(ssh_agent, ssh_keys[kind], flags)
    assert Reader(signature, "signature").text() == algorithm
    assert algorithm in signature_algorithms(key)
    verify(key, signature, MESSAGE)
    with pytest.raises(WireError, match="does not verify"):
        verify(key, signature, MESSAGE + b"!")
    with pytest.raises(WireError):
        verify(key, signature[:-1] + bytes([signature[-1] ^ 1]), MESSAGE)
    with pytest.raises(WireError, match="too many"):
        verify(key, signature + b"\0", MESSAGE)
    with pytest.raises(WireError, match="cut off"):
        verify(key, signature[:-1], MESSAGE)


def test_refuses_sha1_signature(ssh_keys: Mapping[str, Path], ssh_agent: RealAgent) -> None:
    signature = signed(ssh_agent, ssh_keys["rsa-2048"], 0)
    assert Reader(signature, "signature").text() == "ssh-rsa"
    with pytest.raises(WireError, match="does not fit"):
        verify(parse_public_key(public_blob(ssh_keys["rsa-2048"])), signature, MESSAGE)


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_refuses_every_algorithm_that_is_not_the_keys(kind: str, ssh_keys: Mapping[str, Path]) -> None:
    key = parse_public_key(public_blob(ssh_keys[kind]))
    every = {name for _, _, name in SIGNATURES} | {"ssh-rsa", "ssh-dss", "", "none"}
    for name in every - set(signature_algorithms(key)):
        with pytest.raises(WireError, match="does not fit"):
            verify(key, text(name) + string(bytes(64)), MESSAGE)


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_refuses_another_keys_signature(kind: str, ssh_keys: Mapping[str, Path], tmp_path: Path) -> None:
    keygen("-q", *KEY_KINDS[kind], "-N", "", "-f", str(tmp_path / "other"))
    real = RealAgent(tmp_path / "s")
    try:
        real.add(tmp_path / "other")
        signature = signed(real, tmp_path / "other", agent.SSH_AGENT_RSA_SHA2_512)
    finally:
        real.stop()
    with pytest.raises(WireError):
        verify(parse_public_key(public_blob(ssh_keys[kind])), signature, MESSAGE)


ECDSA = "ecdsa-sha2-nistp256"


@pytest.mark.parametrize(
    ("blob", "raw"),
    [
        (Ed25519Signer(1).blob, text("ssh-ed25519") + string(bytes(63))),
        (Ed25519Signer(1).blob, text("ssh-ed25519") + string(bytes(65))),
        (Ed25519Signer(1).blob, text("ssh-ed25519") + string(b"")),
        (ecdsa_blob("nistp256"), text(ECDSA) + string(mpint(0) + mpint(5))),
        (ecdsa_blob("nistp256"), text(ECDSA) + string(mpint(5) + mpint(0))),
        (ecdsa_blob("nistp256"), text(ECDSA) + string(mpint(1 << 256) + mpint(5))),
        (ecdsa_blob("nistp256"), text(ECDSA) + string(mpint(5) + mpint(5) + b"\0")),
        (ecdsa_blob("nistp256"), text(ECDSA) + string(string(b"\xff") + mpint(5))),
        (ecdsa_blob("nistp256"), text(ECDSA) + string(string(b"\0\1") + mpint(5))),
        (ecdsa_blob("nistp256"), text(ECDSA) + string(mpint(5) + mpint(5))),
        (rsa_blob(), text("rsa-sha2-256") + string(bytes(255))),
        (rsa_blob(), text("rsa-sha2-256") + string(bytes(257))),
        (rsa_blob(), text("rsa-sha2-512") + string(b"\xff" * 256)),
        (rsa_blob(), text("rsa-sha2-512") + string(bytes(256))),
    ],
)
def test_refuses_malformed_signature(blob: bytes, raw: bytes) -> None:
    with pytest.raises(WireError):
        verify(parse_public_key(blob), raw, MESSAGE)


def test_signature_size_is_bounded_before_it_is_read() -> None:
    key = parse_public_key(Ed25519Signer(1).blob)
    head = text("ssh-ed25519")
    fits = head + string(bytes(MAX_SIGNATURE_BYTES - len(head) - 4))
    with pytest.raises(WireError, match="ed25519 signature of"):
        verify(key, fits, MESSAGE)
    with pytest.raises(WireError, match="at most"):
        verify(key, head + string(bytes(MAX_SIGNATURE_BYTES - len(head) - 3)), MESSAGE)


@pytest.mark.parametrize("bits", [2048, 4096, 8192])
def test_takes_rsa_of_allowed_size(bits: int) -> None:
    assert parse_public_key(rsa_blob(bits)).bits == bits


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (b"", "cut off"),
        (text("ssh-ed25519"), "cut off"),
        (text("ssh-ed25519") + string(bytes(31)), "31 bytes"),
        (text("ssh-ed25519") + string(bytes(33)), "33 bytes"),
        (Ed25519Signer(1).blob + b"\0", "too many"),
        (text("ssh-rsa") + Ed25519Signer(1).fields, "negative"),
        (text("ssh-dss") + mpint(5) * 4, "not supported"),
        (text("sk-ssh-ed25519@openssh.com") + string(bytes(32)) + text("ssh:"), "not supported"),
        (text("ssh-ed25519-cert-v01@openssh.com") + string(bytes(32)), "not supported"),
        (text("rsa-sha2-256") + mpint(65537) + mpint((1 << 2047) + 1), "not supported"),
        (string(b"\xff\xfe"), "UTF-8"),
        (rsa_blob(2047), "2047 bits"),
        (rsa_blob(8193), "8193 bits"),
        (rsa_blob(lowest=2), "impossible"),
        (rsa_blob(exponent=1), "impossible"),
        (rsa_blob(exponent=0), "impossible"),
        (rsa_blob(exponent=65536), "impossible"),
        (rsa_blob(exponent=(1 << 64) + 1), "impossible"),
        (rsa_blob() + b"\0", "too many"),
        (text("ssh-rsa") + mpint(65537) + string(b"\0\0" + b"\xff" * 256), "needless zero"),
        (text("ssh-rsa") + mpint(65537) + string(b"\xff" * 256), "negative"),
        (text("ssh-rsa") + string(b"\xff") + mpint((1 << 2047) + 1), "negative"),
        (text("ecdsa-sha2-nistp256") + ecdsa_fields("nistp384"), "another curve"),
        (text("ecdsa-sha2-nistp256") + text("nistp256") + string(b"\4" + bytes(64)), "crypto library"),
        (text("ecdsa-sha2-nistp256") + text("nistp256") + string(b"\2" + bytes(32)), "uncompressed"),
        (text("ecdsa-sha2-nistp256") + text("nistp256") + string(b"\2" + bytes(64)), "uncompressed"),
        (text("ecdsa-sha2-nistp256") + text("nistp256") + string(b""), "uncompressed"),
        (text("ecdsa-sha2-nistp256") + text("nistp256") + string(b"\0"), "uncompressed"),
        (text("ecdsa-sha2-nistp521") + text("nistp521") + string(b"\4" + b"\xff" * 132), "crypto library"),
        (ecdsa_blob("nistp384") + b"\0", "too many"),
    ],
)
def test_refuses_malformed_key(blob: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        parse_public_key(blob)


def test_key_size_is_bounded_before_it_is_read() -> None:
    with pytest.raises(WireError, match="not supported"):
        parse_public_key(text("x") + bytes(MAX_KEY_BYTES - 5))
    with pytest.raises(WireError, match="at most"):
        parse_public_key(text("x") + bytes(MAX_KEY_BYTES - 4))


GOOD_LINE = "ssh-ed25519 " + base64.b64encode(Ed25519Signer(1).blob).decode()


@pytest.mark.parametrize("comment", ["", " pilot", " two words", "\n", " pilot key\n", "\r\n"])
def test_takes_a_line_with_or_without_comment(comment: str) -> None:
    assert parse_authorized(GOOD_LINE + comment).blob == Ed25519Signer(1).blob


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        GOOD_LINE + "\n" + GOOD_LINE,
        GOOD_LINE + " a\rb",
        "ssh-rsa " + GOOD_LINE.split()[1],
        "restrict " + GOOD_LINE,
        'command="x" ' + GOOD_LINE,
        GOOD_LINE.split()[1],
        GOOD_LINE[:-1],
        GOOD_LINE[:30] + "*" + GOOD_LINE[30:],
        GOOD_LINE[:30] + "\u00e9" + GOOD_LINE[30:],
        GOOD_LINE + "====",
        GOOD_LINE + " " + "c" * MAX_AUTHORIZED_CHARS,
    ],
)
def test_refuses_other_lines(line: str) -> None:
    with pytest.raises(WireError):
        parse_authorized(line)


def test_refuses_base64_with_stray_bits() -> None:
    blob = ecdsa_blob("nistp256")
    assert len(blob) % 3 == 2, "the last character carries two unused bits"
    encoded = base64.b64encode(blob).decode()
    stray = encoded[:-2] + chr(ord(encoded[-2]) + 1) + "="
    assert base64.b64decode(stray) == blob
    with pytest.raises(WireError, match="canonical"):
        parse_authorized(f"ecdsa-sha2-nistp256 {stray}")


def test_size_byte_of_an_inner_string_cannot_reach_outside() -> None:
    with pytest.raises(WireError, match="cut off"):
        parse_public_key(b"\xff\xff\xff\xff" + byte(0) * 20)
