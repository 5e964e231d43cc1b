# SPDX-License-Identifier: Apache-2.0
"""OpenSSH certificates (v01): taken apart strictly, with the CA's signature verified before anything is believed.

A parsed certificate says what its CA signed, not that the CA is one of ours: `check_host_certificate` decides that.

Source: PROTOCOL.certkeys of OpenSSH.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from glideinwms_bosco.errors import WireError
from glideinwms_bosco.sshwire.keys import ED25519, KEY_TYPES, RSA, PublicKey, parse_public_key, verify
from glideinwms_bosco.sshwire.primitives import Reader, mpint, string, text

SSH_CERT_TYPE_USER = 1
SSH_CERT_TYPE_HOST = 2

CERT_SUFFIX = "-cert-v01@openssh.com"
CERT_TYPES = tuple(key_type + CERT_SUFFIX for key_type in KEY_TYPES)

MAX_CERT_BYTES = 8192
MAX_NONCE_BYTES = 64
MAX_KEY_ID_CHARS = 1024
# SSHKEY_CERT_MAX_PRINCIPALS of OpenSSH's sshkey.h.
MAX_PRINCIPALS = 256
MAX_PRINCIPAL_CHARS = 255
MAX_OPTIONS = 64


@dataclass(frozen=True)
class Certificate:
    """What a CA signed about a key.

    Attributes:
        algorithm: certificate type, such as `ssh-ed25519-cert-v01@openssh.com`.
        key: the certified key in its plain form.
        serial: chosen by the CA; 0 when it does not number.
        type: SSH_CERT_TYPE_USER or SSH_CERT_TYPE_HOST.
        key_id: text of the CA for logs.
        principals: users or host names; empty means any, which we accept for no host.
        valid_after: unix time (s), first second of validity.
        valid_before: unix time (s), first second after it; 2**64 - 1 for ever.
        critical_options: name -> data field as on the wire (for known options one more string inside).
        extensions: name -> data field as on the wire.
        ca: the key that signed.
        blob: the whole certificate.
    """

    algorithm: str
    key: PublicKey
    serial: int
    type: int
    key_id: str
    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    critical_options: Mapping[str, bytes]
    extensions: Mapping[str, bytes]
    ca: PublicKey
    blob: bytes


def is_certificate(blob: bytes) -> bool:
    """Return whether a key blob says that it is a certificate of a type we parse; it may still not parse."""
    return any(blob.startswith(text(cert_type)) for cert_type in CERT_TYPES)


def _plain_key(key_type: str, reader: Reader) -> bytes:
    """Read the fields of the certified key; return them as a plain key blob."""
    if key_type == ED25519:
        fields = string(reader.string())
    elif key_type == RSA:
        fields = mpint(reader.mpint()) + mpint(reader.mpint())
    else:
        fields = string(reader.string()) + string(reader.string())
    return text(key_type) + fields


def _principals(packed: bytes) -> tuple[str, ...]:
    reader = Reader(packed, "certificate: principals")
    names: list[str] = []
    while reader.left:
        name = reader.text()
        if not 0 < len(name) <= MAX_PRINCIPAL_CHARS or not name.isprintable():
            raise WireError("certificate: a principal that is empty, too long or not printable")
        names.append(name)
        if len(names) > MAX_PRINCIPALS:
            raise WireError(f"certificate: more than {MAX_PRINCIPALS} principals")
    return tuple(names)


def _options(packed: bytes, what: str) -> Mapping[str, bytes]:
    """Read pairs of name and data, which must stand in the order of their names, each name once."""
    reader = Reader(packed, f"certificate: {what}")
    options: dict[str, bytes] = {}
    last = b""
    while reader.left:
        name = reader.string()
        if name <= last:
            raise WireError(f"certificate: {what} are not in order, or one stands twice")
        if not name.isascii() or not name.decode("ascii").isprintable():
            raise WireError(f"certificate: {what} with a name that is not printable ASCII")
        last = name
        options[name.decode("ascii")] = reader.string()
        if len(options) > MAX_OPTIONS:
            raise WireError(f"certificate: more than {MAX_OPTIONS} {what}")
    return MappingProxyType(options)


def _ca(blob: bytes) -> PublicKey:
    try:
        return parse_public_key(blob)
    except WireError as error:
        # A certificate as signature key would be a chain, which PROTOCOL.certkeys forbids.
        raise WireError(f"certificate: CA key: {error.message}", error.hint) from None


def _text(reader: Reader, limit_chars: int, what: str) -> str:
    value = reader.text()
    if len(value) > limit_chars or not value.isprintable():
        raise WireError(f"certificate: {what} that is too long or not printable")
    return value


def parse_certificate(blob: bytes) -> Certificate:
    """Parse a user or host certificate and verify the signature of the CA named inside.

    Raises:
        WireError: it does not parse, its key or its CA's key is not one we accept, or its signature does not verify.
    """
    if len(blob) > MAX_CERT_BYTES:
        raise WireError(f"certificate: {len(blob)} bytes, at most {MAX_CERT_BYTES} are allowed")
    reader = Reader(blob, "certificate")
    algorithm = reader.text()
    if algorithm not in CERT_TYPES:
        raise WireError(f"certificate: type {algorithm[:64]!r} is not supported")
    if not 0 < len(reader.string()) <= MAX_NONCE_BYTES:
        raise WireError(f"certificate: nonce is not 1 to {MAX_NONCE_BYTES} bytes long")
    plain = _plain_key(algorithm[: -len(CERT_SUFFIX)], reader)
    serial = reader.uint64()
    cert_type = reader.uint32()
    if cert_type not in (SSH_CERT_TYPE_USER, SSH_CERT_TYPE_HOST):
        raise WireError(f"certificate: neither for a user nor for a host (type {cert_type})")
    key_id = _text(reader, MAX_KEY_ID_CHARS, "key id")
    principals = _principals(reader.string())
    valid_after, valid_before = reader.uint64(), reader.uint64()
    critical_options = _options(reader.string(), "critical options")
    extensions = _options(reader.string(), "extensions")
    if reader.string():
        raise WireError("certificate: the reserved field is not empty")
    ca = _ca(reader.string())
    signed = blob[: len(blob) - reader.left]
    signature = reader.string()
    reader.end()
    verify(ca, signature, signed)
    return Certificate(
        algorithm, parse_public_key(plain), serial, cert_type, key_id, principals, valid_after, valid_before,
        critical_options, extensions, ca, bytes(blob),
    )  # fmt: skip


def check_host_certificate(cert: Certificate, ca_blobs: Collection[bytes], names: Collection[str], now: int) -> None:
    """Check that a certificate speaks for a host.

    Args:
        cert: a parsed certificate.
        ca_blobs: public key blobs of the host CAs that are trusted for this host.
        names: names of the host as registered; one of them must stand, letter by letter, among the principals.
        now: unix time (s).

    Raises:
        WireError: a reason not to believe it. A host certificate without principals would be valid for every host and
            is refused, as is any critical option: OpenSSH defines none for hosts.
    """
    if cert.type != SSH_CERT_TYPE_HOST:
        raise WireError("host certificate: it is a user's certificate")
    if cert.ca.blob not in ca_blobs:
        raise WireError(f"host certificate: signed by a CA that is not registered, {cert.ca.fingerprint}")
    if not set(names).intersection(cert.principals):
        raise WireError(f"host certificate: made for {', '.join(cert.principals[:8]) or 'no name'}, not for this host")
    if now < cert.valid_after:
        raise WireError("host certificate: not valid yet")
    if now >= cert.valid_before:
        raise WireError("host certificate: expired")
    if cert.critical_options:
        raise WireError(f"host certificate: critical option {next(iter(cert.critical_options))!r}")
