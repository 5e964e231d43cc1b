# SPDX-License-Identifier: Apache-2.0
"""TLS 1.3 between broker and relay: who the peer is, is decided by the pin of its public key and by nothing else.

A pin is `sha256:` and the 64 hex digits of the SHA-256 of the certificate's SubjectPublicKeyInfo. The two
administrators exchange pins, one line each; no certificate has to be sent around.

Why there is an *open issuer*: Python's `ssl` has no verify callback, and OpenSSL ends the handshake of every client
whose certificate does not lead to a trust anchor, so a server that knows only a pin could not even see the
certificate that the pin is about. Therefore all certificates that `make_identity` writes are issued by a key that is
computed from a published text: everybody has it, so the chain says "made for this purpose" and proves nothing. Both
ends trust that anchor in a context of its own, the handshake proves that the peer holds the private key of its leaf
(RFC 8446 section 4.4.3), and `check_peer` compares the leaf's pin before a byte of the peer is read. A certificate
made by other means is turned away in the handshake already. Nothing but this module ever trusts the open issuer.

With TLS 1.3 a client has finished its handshake before the server has judged the client's certificate. So neither
end acts before the other's HELLO.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from glideinwms_bosco.atomic import write_atomic
from glideinwms_bosco.errors import LinkError
from glideinwms_bosco.link import open_issuer
from glideinwms_bosco.sshwire.handle import spki_pin

ALPN = "gwms-ssh-broker/1"
KEY_MODE = 0o600
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SslEnd = Union[ssl.SSLObject, ssl.SSLSocket]


@dataclass(frozen=True)
class Identity:
    """What one end shows of itself: a certificate and the private key to it, in PEM files.

    Attributes:
        spki_der: SubjectPublicKeyInfo of the certificate.
    """

    cert_file: Path
    key_file: Path
    spki_der: bytes

    @property
    def pin(self) -> str:
        """`sha256:` and 64 hex digits: what the other end's administrator registers."""
        return spki_pin(self.spki_der)


def make_identity(directory: Path, name: str) -> Identity:
    """Make a P-256 key and its certificate: `<name>.key` (mode 0600) and `<name>.crt` (0644) in `directory`.

    Args:
        name: letters, digits and `._-`, at most 64; also the certificate's subject. It is shown, never trusted.

    Raises:
        LinkError: a bad name, one of the files exists, or it cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise LinkError(f"{name!r} cannot name a key", "use letters, digits, '.', '_' and '-', at most 64")
    cert_file, key_file = directory / f"{name}.crt", directory / f"{name}.key"
    for path in (cert_file, key_file):
        if path.exists():
            raise LinkError(f"{path} exists", "to change the key, make one with another name and register its pin")
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    try:
        write_atomic(key_file, key.private_bytes(*form), KEY_MODE)
        write_atomic(cert_file, open_issuer.leaf(key.public_key(), name).public_bytes(serialization.Encoding.PEM))
    except OSError as error:
        raise LinkError(
            f"{directory}: {error.strerror}", f"nothing but {key_file.name} may have been left there"
        ) from error
    return Identity(cert_file, key_file, _spki(key.public_key()))


def load_identity(cert_file: Path, key_file: Path) -> Identity:
    """Read the certificate of an identity; the private key is read when a context is made.

    Raises:
        LinkError: the certificate cannot be read.
    """
    try:
        pem = cert_file.read_bytes()
    except OSError as error:
        raise LinkError(f"{cert_file}: {error.strerror}", "make the key and the certificate first") from error
    try:
        public_key = x509.load_pem_x509_certificate(pem).public_key()
        return Identity(cert_file, key_file, _spki(public_key))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise LinkError(f"{cert_file}: no certificate that can be used ({error})") from error


def server_context(identity: Identity) -> ssl.SSLContext:
    """The relay's side: TLS 1.3 only, a client certificate is demanded. `admission` has the last word.

    Raises:
        LinkError: key or certificate cannot be read, or they do not belong together.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, identity)
    context.num_tickets = 0  # a resumed session would skip the client's proof of its key; 3 ms are not worth it
    return context


def client_context(identity: Identity) -> ssl.SSLContext:
    """The broker's side: TLS 1.3 only; the relay's host name does not count.

    Raises:
        LinkError: key or certificate cannot be read, or they do not belong together.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, identity)


def _context(protocol: int, identity: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols([ALPN])
    try:
        # An empty password, or OpenSSL would ask on the terminal for that of an encrypted key.
        context.load_cert_chain(identity.cert_file, identity.key_file, password="")
    except (OSError, ValueError) as error:
        files = f"{identity.cert_file} and {identity.key_file}"
        raise LinkError(
            f"{files}: {_openssl_words(error)}", "both must be PEM, of one key, without pass phrase"
        ) from error
    context.load_verify_locations(cadata=open_issuer.anchor().public_bytes(serialization.Encoding.DER))
    return context


def peer_spki(tls: SslEnd) -> bytes:
    """SubjectPublicKeyInfo (DER) of the peer's certificate.

    Raises:
        LinkError: there is no certificate, or its key is of no kind we know.
    """
    der = tls.getpeercert(binary_form=True)
    if der is None:
        raise LinkError("the peer shows no certificate")
    try:
        return _spki(x509.load_der_x509_certificate(der).public_key())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise LinkError(f"the peer's certificate cannot be read ({error})") from error


def _openssl_words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return getattr(error, "strerror", None) or str(error)


def _spki(key: object) -> bytes:
    if not hasattr(key, "public_bytes"):
        raise ValueError("key of an unknown kind")
    encoded = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return bytes(encoded)
