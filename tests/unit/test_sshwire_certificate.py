# SPDX-License-Identifier: Apache-2.0
"""Certificates: those of ssh-keygen -s are read whole; a change of any bit, or another shape, is refused."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glideinwms_bosco.errors import WireError
from glideinwms_bosco.sshwire.certificate import (
    MAX_CERT_BYTES,
    MAX_KEY_ID_CHARS,
    MAX_NONCE_BYTES,
    MAX_OPTIONS,
    MAX_PRINCIPALS,
    SSH_CERT_TYPE_HOST,
    SSH_CERT_TYPE_USER,
    check_host_certificate,
    is_certificate,
    parse_certificate,
)
from glideinwms_bosco.sshwire.keys import parse_public_key
from glideinwms_bosco.sshwire.primitives import string, text
from tests.unit.ssh_builder import (
    FOREVER,
    CertificateFields,
    Ed25519Signer,
    ecdsa_fields,
    options,
    packed,
    rsa_blob,
    rsa_fields,
)
from tests.unit.ssh_material import KEY_KINDS, keygen, public_blob, sign_certificate, ssh_keys

__all__ = ["ssh_keys"]

NAMES = ("host.example.org",)


def copied_key(source: Path, directory: Path) -> Path:
    """A key pair of its own to certify: ssh-keygen leaves the certificate beside it."""
    for suffix in ("", ".pub"):
        directory.joinpath(f"key{suffix}").write_bytes(source.with_name(source.name + suffix).read_bytes())
    directory.joinpath("key").chmod(0o600)
    return directory / "key"


@pytest.mark.parametrize("ca_kind", ["ed25519", "ecdsa-384", "rsa-3072"])
@pytest.mark.parametrize("kind", KEY_KINDS)
def test_reads_host_certificates_of_ssh_keygen(
    kind: str, ca_kind: str, ssh_keys: Mapping[str, Path], tmp_path: Path
) -> None:
    ca, key_file = ssh_keys[ca_kind], copied_key(ssh_keys[kind], tmp_path)
    args = ("-h", "-I", "a host", "-n", "host.example.org,alias", "-z", "7", "-V", "20200101000000:20300101000000")
    blob = sign_certificate(ca, key_file, *args)
    cert = parse_certificate(blob)
    assert is_certificate(blob)
    assert (cert.blob, cert.key, cert.ca.blob) == (blob, parse_public_key(public_blob(key_file)), public_blob(ca))
    assert (cert.type, cert.serial, cert.key_id) == (SSH_CERT_TYPE_HOST, 7, "a host")
    assert cert.principals == ("host.example.org", "alias")
    assert 315360000 <= cert.valid_before - cert.valid_after <= 315705600, "ten years"
    assert (dict(cert.critical_options), dict(cert.extensions)) == ({}, {})
    check_host_certificate(cert, [public_blob(ca)], NAMES, cert.valid_after)


def test_reads_user_certificate_with_options(ssh_keys: Mapping[str, Path], tmp_path: Path) -> None:
    key_file = copied_key(ssh_keys["ecdsa-256"], tmp_path)
    restrictions = ("-O", "clear", "-O", "force-command=~/bin/gate", "-O", "source-address=192.0.2.1/32")
    allowed = ("-O", "permit-port-forwarding", "-O", "extension:site@example.org=x")
    blob = sign_certificate(ssh_keys["ed25519"], key_file, "-I", "i", "-n", "gwms-pilot", *restrictions, *allowed)
    cert = parse_certificate(blob)
    assert (cert.type, cert.principals, cert.serial) == (SSH_CERT_TYPE_USER, ("gwms-pilot",), 0)
    assert cert.critical_options == {
        "force-command": text("~/bin/gate"),
        "source-address": text("192.0.2.1/32"),
    }
    assert cert.extensions == {"permit-port-forwarding": b"", "site@example.org": text("x")}
    assert (cert.valid_after, cert.valid_before) == (0, FOREVER)


def test_plain_keys_are_no_certificates(ssh_keys: Mapping[str, Path]) -> None:
    for key_file in ssh_keys.values():
        assert not is_certificate(public_blob(key_file))
        with pytest.raises(WireError, match="not supported"):
            parse_certificate(public_blob(key_file))
    assert not is_certificate(b"")
    assert not is_certificate(text("sk-ssh-ed25519-cert-v01@openssh.com"))


def test_built_certificate_is_one_for_ssh_keygen_too(tmp_path: Path) -> None:
    blob = CertificateFields(critical_options=options(("force-command", text("x")))).blob()
    (tmp_path / "c.pub").write_text(f"ssh-ed25519-cert-v01@openssh.com {base64.b64encode(blob).decode()}\n")
    listed = keygen("-L", "-f", str(tmp_path / "c.pub"))
    assert "Serial: 42" in listed
    assert parse_certificate(blob).ca.fingerprint in listed


@pytest.mark.parametrize("at", range(0, len(CertificateFields().blob())))
def test_refuses_every_changed_byte(at: int) -> None:
    blob = CertificateFields().blob()
    with pytest.raises(WireError):
        parse_certificate(blob[:at] + bytes([blob[at] ^ 0x10]) + blob[at + 1 :])


def test_refuses_every_shortened_certificate() -> None:
    blob = CertificateFields().blob()
    for cut in range(len(blob)):
        with pytest.raises(WireError):
            parse_certificate(blob[:cut])


OTHER = Ed25519Signer(33)
ED_CERT = "ssh-ed25519-cert-v01@openssh.com"
MANY = packed(*(f"h{number}" for number in range(MAX_PRINCIPALS + 1)))
NUMBERED = options(*((f"o{number:03}", b"") for number in range(MAX_OPTIONS + 1)))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tail": b"\0"}, "too many"),
        ({"nonce": b""}, "nonce"),
        ({"nonce": bytes(MAX_NONCE_BYTES + 1)}, "nonce"),
        ({"algorithm": "ssh-ed25519"}, "not supported"),
        ({"algorithm": "ssh-ed25519-cert-v00@openssh.com"}, "not supported"),
        ({"algorithm": "ssh-dss-cert-v01@openssh.com"}, "not supported"),
        ({"algorithm": "ssh-rsa-cert-v01@openssh.com"}, "number"),
        ({"algorithm": "rsa-sha2-512-cert-v01@openssh.com"}, "not supported"),
        ({"key_fields": string(bytes(31))}, "31 bytes"),
        ({"algorithm": "ssh-rsa-cert-v01@openssh.com", "key_fields": rsa_fields(1024)}, "1024 bits"),
        ({"algorithm": "ecdsa-sha2-nistp256-cert-v01@openssh.com", "key_fields": ecdsa_fields("nistp384")}, "curve"),
        ({"type": 0}, "neither"),
        ({"type": 3}, "neither"),
        ({"key_id": b"\xff"}, "UTF-8"),
        ({"key_id": b"a\nb"}, "key id"),
        ({"key_id": b"a" * (MAX_KEY_ID_CHARS + 1)}, "key id"),
        ({"principals": packed("")}, "principal"),
        ({"principals": packed("a\0b")}, "principal"),
        ({"principals": packed("h" * 256)}, "principal"),
        ({"principals": packed("host") + b"\0"}, "cut off"),
        ({"principals": string(b"\xff")}, "UTF-8"),
        ({"principals": MANY}, "principals"),
        ({"critical_options": options(("b", b""), ("a", b""))}, "order"),
        ({"critical_options": options(("a", b""), ("a", b""))}, "order"),
        ({"critical_options": options(("", b""))}, "order"),
        ({"critical_options": options(("\u00e9", b""))}, "ASCII"),
        ({"critical_options": options(("a\n", b""))}, "ASCII"),
        ({"critical_options": text("a")}, "cut off"),
        ({"critical_options": NUMBERED}, "critical options"),
        ({"extensions": options(("b", b""), ("a", b""))}, "order"),
        ({"extensions": NUMBERED}, "extensions"),
        ({"extensions": b"\0"}, "cut off"),
        ({"reserved": b"x"}, "reserved"),
        ({"ca_blob": b""}, "CA key"),
        ({"ca_blob": OTHER.blob}, "does not verify"),
        ({"ca_blob": CertificateFields().blob()}, "CA key"),
        ({"ca_blob": rsa_blob(1024)}, "1024 bits"),
        ({"signature": b""}, "cut off"),
        ({"signature": OTHER.sign(b"something else")}, "does not verify"),
        ({"signature": text("ssh-rsa") + string(bytes(256))}, "does not fit"),
        ({"signature": Ed25519Signer(9).sign(b"") + b"\0"}, "too many"),
        ({"key_id": b"k" * 1024, "extensions": options(("x", bytes(MAX_CERT_BYTES)))}, "at most"),
    ],
)
def test_refuses_signed_but_malformed_certificate(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        parse_certificate(replace(CertificateFields(), **changes).blob())


@pytest.mark.parametrize(
    "changes",
    [
        {"principals": b""},
        {"principals": packed(*(f"h{number}" for number in range(MAX_PRINCIPALS)))},
        {"extensions": options(*((f"o{number:03}", b"") for number in range(MAX_OPTIONS)))},
        {"nonce": bytes(MAX_NONCE_BYTES)},
        {"key_id": b""},
        {"serial": 2**64 - 1},
        {"algorithm": "ssh-rsa-cert-v01@openssh.com", "key_fields": rsa_fields(8192)},
        {"algorithm": "ecdsa-sha2-nistp521-cert-v01@openssh.com", "key_fields": ecdsa_fields("nistp521")},
    ],
)
def test_takes_what_is_at_the_limit(changes: dict[str, Any]) -> None:
    cert = parse_certificate(replace(CertificateFields(), **changes).blob())
    assert cert.ca.blob == Ed25519Signer(9).blob


CA_BLOBS = (OTHER.blob, Ed25519Signer(9).blob)


@pytest.mark.parametrize(
    ("changes", "cas", "names", "now", "reason"),
    [
        ({"type": 1}, CA_BLOBS, NAMES, 1500, "user's"),
        ({}, (OTHER.blob,), NAMES, 1500, "not registered"),
        ({}, (), NAMES, 1500, "not registered"),
        ({}, CA_BLOBS, ("other.example.org",), 1500, "not for this host"),
        ({}, CA_BLOBS, ("HOST.example.org",), 1500, "not for this host"),
        ({}, CA_BLOBS, (), 1500, "not for this host"),
        ({"principals": b""}, CA_BLOBS, NAMES, 1500, "no name"),
        ({"principals": packed("*.example.org")}, CA_BLOBS, NAMES, 1500, "not for this host"),
        ({}, CA_BLOBS, NAMES, 999, "not valid yet"),
        ({}, CA_BLOBS, NAMES, 2000, "expired"),
        ({"valid_before": 1000}, CA_BLOBS, NAMES, 1000, "expired"),
        ({"critical_options": options(("any", b""))}, CA_BLOBS, NAMES, 1500, "critical option"),
    ],
)
def test_host_certificate_does_not_speak_for_the_host(
    changes: dict[str, Any], cas: Collection[bytes], names: Collection[str], now: int, reason: str
) -> None:
    cert = parse_certificate(replace(CertificateFields(), **changes).blob())
    with pytest.raises(WireError, match=reason):
        check_host_certificate(cert, cas, names, now)


@pytest.mark.parametrize("now", [1000, 1999])
@pytest.mark.parametrize("names", [NAMES, ("other", "host"), {"host"}])
def test_host_certificate_speaks_for_the_host(names: Collection[str], now: int) -> None:
    check_host_certificate(parse_certificate(CertificateFields().blob()), CA_BLOBS, names, now)


def test_extensions_do_not_matter_for_a_host() -> None:
    cert = parse_certificate(CertificateFields(extensions=options(("site@example.org", b"\xff"))).blob())
    check_host_certificate(cert, CA_BLOBS, NAMES, 1500)


def test_options_of_a_certificate_cannot_be_changed() -> None:
    cert = parse_certificate(CertificateFields().blob())
    with pytest.raises(TypeError):
        cert.critical_options["x"] = b""  # type: ignore[index]
