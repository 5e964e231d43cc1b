# SPDX-License-Identifier: Apache-2.0
"""The issuer that everybody can be: a form that OpenSSL wants filled in; `tls` says why and what counts instead."""

from __future__ import annotations

import datetime
import hashlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LABEL = b"gwms-ssh-link-open-issuer-v1"
_COMMON_NAME = "gwms-ssh open issuer, proves nothing"
_NOT_BEFORE = datetime.datetime(2020, 1, 1)
# Source: RFC 5280 section 4.1.2.5, a certificate with no well-defined end. A pin is withdrawn; it does not expire,
# and a wrong clock must not cut the link.
_NOT_AFTER = datetime.datetime(9999, 12, 31, 23, 59, 59)


def anchor() -> x509.Certificate:
    """The open issuer's own certificate. Its signature differs from call to call; name and key never do."""
    key = _key()
    issuer = x509.BasicConstraints(ca=True, path_length=0)
    builder = _builder(_COMMON_NAME, key.public_key()).add_extension(issuer, critical=True)
    return builder.add_extension(_usage(certificates=True), critical=True).sign(key, hashes.SHA256())


def leaf(public_key: ec.EllipticCurvePublicKey, name: str) -> x509.Certificate:
    """A certificate for one end of the link, good for both directions.

    Args:
        name: subject; at most 64 characters.
    """
    purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    key = _key()
    builder = _builder(name, public_key)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(certificates=False), critical=True)
    builder = builder.add_extension(purposes, critical=False)
    by_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return builder.add_extension(by_key, critical=False).sign(key, hashes.SHA256())


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(hashlib.sha256(_LABEL).digest(), "big"), ec.SECP256R1())


def _builder(common_name: str, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(_name(common_name)).issuer_name(_name(_COMMON_NAME))
    builder = builder.public_key(public_key).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(_NOT_BEFORE).not_valid_after(_NOT_AFTER)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
