# SPDX-License-Identifier: Apache-2.0
"""Well-formed ssh objects out of fixed numbers, each value of which a test can replace: the same bytes in every run.

Real keys, agents and daemons stand in ssh_material; here is what those never produce.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Optional

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from glideinwms_bosco.sshwire.primitives import byte, mpint, string, text, uint32, uint64

CURVES: dict[str, ec.EllipticCurve] = {
    "nistp256": ec.SECP256R1(), "nistp384": ec.SECP384R1(), "nistp521": ec.SECP521R1(),
}  # fmt: skip
FOREVER = 2**64 - 1


@dataclass(frozen=True)
class Ed25519Signer:
    """An ed25519 key pair made of one repeated byte; its signatures are the same in every run."""

    number: int

    @property
    def _private(self) -> ed25519.Ed25519PrivateKey:
        return ed25519.Ed25519PrivateKey.from_private_bytes(byte(self.number) * 32)

    @property
    def fields(self) -> bytes:
        return string(self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    @property
    def blob(self) -> bytes:
        return text("ssh-ed25519") + self.fields

    def sign(self, message: bytes) -> bytes:
        return text("ssh-ed25519") + string(self._private.sign(message))


def ecdsa_fields(curve: str, scalar: int = 12345) -> bytes:
    """Curve name and point of the key with a fixed scalar."""
    public = ec.derive_private_key(scalar, CURVES[curve]).public_key()
    return text(curve) + string(public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


def ecdsa_blob(curve: str, scalar: int = 12345) -> bytes:
    return text(f"ecdsa-sha2-{curve}") + ecdsa_fields(curve, scalar)


def rsa_fields(bits: int = 2048, exponent: int = 65537, lowest: int = 1) -> bytes:
    """Exponent and a modulus of exactly `bits` bits that nobody can factor with use: it has no private half."""
    return mpint(exponent) + mpint((1 << (bits - 1)) + (0x1234567 << 40) + lowest)


def rsa_blob(bits: int = 2048, exponent: int = 65537, lowest: int = 1) -> bytes:
    return text("ssh-rsa") + rsa_fields(bits, exponent, lowest)


def packed(*names: str) -> bytes:
    return b"".join(text(name) for name in names)


def options(*pairs: tuple[str, bytes]) -> bytes:
    return b"".join(text(name) + string(data) for name, data in pairs)


@dataclass
class CertificateFields:
    """A host certificate of host.example.org; set one value and `blob()` signs what results."""

    algorithm: str = "ssh-ed25519-cert-v01@openssh.com"
    nonce: bytes = b"n" * 32
    key_fields: bytes = field(default_factory=lambda: Ed25519Signer(7).fields)
    serial: int = 42
    type: int = 2
    key_id: bytes = b"host.example.org"
    principals: bytes = packed("host.example.org", "host")
    valid_after: int = 1000
    valid_before: int = 2000
    critical_options: bytes = b""
    extensions: bytes = b""
    reserved: bytes = b""
    ca: Ed25519Signer = field(default_factory=lambda: Ed25519Signer(9))
    ca_blob: Optional[bytes] = None
    signature: Optional[bytes] = None
    tail: bytes = b""

    def blob(self) -> bytes:
        signed = (
            text(self.algorithm) + string(self.nonce) + self.key_fields + uint64(self.serial) + uint32(self.type)
            + string(self.key_id) + string(self.principals) + uint64(self.valid_after) + uint64(self.valid_before)
            + string(self.critical_options) + string(self.extensions) + string(self.reserved)
            + string(self.ca.blob if self.ca_blob is None else self.ca_blob)
        )  # fmt: skip
        signature = self.ca.sign(signed) if self.signature is None else self.signature
        return signed + string(signature) + self.tail


def packet(payload: bytes, padding: Optional[int] = None) -> bytes:
    """An unencrypted packet of RFC 4253 section 6."""
    size = 4 + -(5 + len(payload) + 4) % 8 if padding is None else padding
    return uint32(1 + len(payload) + size) + byte(size) + payload + bytes(size)


def kexinit(follows: int = 0) -> bytes:
    lists = (b"curve25519-sha256", b"ssh-ed25519", b"aes256-gcm@openssh.com") + (b"none",) * 7
    return byte(20) + b"c" * 16 + b"".join(string(names) for names in lists) + byte(follows) + uint32(0)


def kex_reply(host_key: bytes = b"K" * 51, signature: bytes = b"S" * 83, kind: int = 31) -> bytes:
    return byte(kind) + string(host_key) + string(b"Q" * 32) + string(signature)


def private_container(comment: bytes, **changes: bytes) -> bytes:
    """An openssh-key-v1 container of an RSA key with made-up numbers.

    changes: magic, cipher, kdf, kdf_options, count, outer_type, check, type, padding, tail.
    """
    numbers = b"".join(mpint((1 << 512) + odd) for odd in (1, 3, 5, 7, 9, 11))
    section = changes.get("check", b"abcdabcd") + string(changes.get("type", b"ssh-rsa")) + numbers + string(comment)
    section += changes.get("padding", bytes(range(1, 1 + -len(section) % 8)))
    return (
        changes.get("magic", b"openssh-key-v1\0")
        + string(changes.get("cipher", b"none")) + string(changes.get("kdf", b"none"))
        + string(changes.get("kdf_options", b"")) + changes.get("count", uint32(1))
        + string(string(changes.get("outer_type", b"ssh-rsa")) + mpint(65537) + mpint((1 << 512) + 1))
        + string(section) + changes.get("tail", b"")
    )  # fmt: skip


def armour(container: bytes) -> bytes:
    encoded = base64.b64encode(container)
    lines = [encoded[at : at + 70] for at in range(0, len(encoded), 70)]
    begin, end = b"-----BEGIN OPENSSH PRIVATE KEY-----", b"-----END OPENSSH PRIVATE KEY-----"
    return b"\n".join([begin, *lines, end, b""])
