# SPDX-License-Identifier: Apache-2.0
"""Public keys of ssh and the signatures made with them: what a key is, which algorithms fit it, whether one verifies.

A key is taken apart by our own strict parser before `cryptography` sees a number of it, and every exception of that
library becomes a WireError here. SHA-1 (`ssh-rsa` as a signature algorithm) does not exist in this module.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Union

from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from glideinwms_bosco.errors import WireError
from glideinwms_bosco.sshwire.primitives import Reader

ED25519 = "ssh-ed25519"
RSA = "ssh-rsa"

# An RSA key of 8192 bits takes 1044 bytes, its signature 1048.
MAX_KEY_BYTES = 2048
MAX_SIGNATURE_BYTES = 2048
MAX_AUTHORIZED_CHARS = 8192
RSA_MIN_BITS = 2048
RSA_MAX_BITS = 8192
# OpenSSL refuses a longer exponent for large moduli, and the cost of a verification grows with its length.
RSA_EXPONENT_MAX_BITS = 64
ED25519_KEY_BYTES = 32
ED25519_SIGNATURE_BYTES = 64
UNCOMPRESSED_POINT = 4
# The same few host keys verify again and again; a key that does not parse is not kept.
_CACHED_KEYS = 512


@dataclass(frozen=True)
class _Curve:
    """A curve of RFC 5656 section 10.1 with the hash of section 6.2.1."""

    name: str
    bits: int
    curve: ec.EllipticCurve
    digest: hashes.HashAlgorithm

    @property
    def point_bytes(self) -> int:
        """Size of an uncompressed point: the form octet and two coordinates."""
        return 1 + 2 * ((self.bits + 7) // 8)


_CURVES = {
    "ecdsa-sha2-nistp256": _Curve("nistp256", 256, ec.SECP256R1(), hashes.SHA256()),
    "ecdsa-sha2-nistp384": _Curve("nistp384", 384, ec.SECP384R1(), hashes.SHA384()),
    "ecdsa-sha2-nistp521": _Curve("nistp521", 521, ec.SECP521R1(), hashes.SHA512()),
}

# Source: RFC 8332 section 3. The order is the order of preference.
_RSA_DIGESTS: dict[str, hashes.HashAlgorithm] = {"rsa-sha2-512": hashes.SHA512(), "rsa-sha2-256": hashes.SHA256()}

# Key type -> signature algorithms that may be used with it.
_SIGNATURE_ALGORITHMS: dict[str, tuple[str, ...]] = {
    ED25519: (ED25519,),
    **{name: (name,) for name in _CURVES},
    RSA: tuple(_RSA_DIGESTS),
}
KEY_TYPES = tuple(_SIGNATURE_ALGORITHMS)

_Loaded = Union[ed25519.Ed25519PublicKey, ec.EllipticCurvePublicKey, rsa.RSAPublicKey]


@dataclass(frozen=True)
class PublicKey:
    """A plain public key (no certificate) that was parsed.

    Attributes:
        algorithm: key type on the wire, such as `ssh-ed25519` or `ssh-rsa`.
        blob: the key as on the wire, its type included.
        bits: size of the modulus or of the curve; 256 for ed25519, as ssh-keygen counts.
    """

    algorithm: str
    blob: bytes
    bits: int

    @property
    def fingerprint(self) -> str:
        """`SHA256:` and unpadded base64, as ssh-keygen -l prints it."""
        return fingerprint(self.blob)

    @property
    def authorized(self) -> str:
        """`TYPE BASE64`, the form of authorized_keys and known_hosts."""
        return f"{self.algorithm} {base64.b64encode(self.blob).decode('ascii')}"


def fingerprint(blob: bytes) -> str:
    """Return `SHA256:` and the unpadded base64 of the digest of some key blob."""
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii")
    return f"SHA256:{digest.rstrip('=')}"


@contextlib.contextmanager
def _wire_errors(what: str) -> Iterator[None]:
    """Turn whatever `cryptography` raises about outside data into a WireError."""
    try:
        yield
    except InvalidSignature:
        raise WireError(f"{what}: the signature does not verify") from None
    except (ValueError, KeyError, OverflowError, UnsupportedAlgorithm, InternalError) as error:
        raise WireError(f"{what}: refused by the crypto library ({type(error).__name__})") from None


def _load_ed25519(reader: Reader) -> tuple[int, _Loaded]:
    raw = reader.string()
    if len(raw) != ED25519_KEY_BYTES:
        raise WireError(f"public key: ed25519 point of {len(raw)} bytes")
    return 256, ed25519.Ed25519PublicKey.from_public_bytes(raw)


def _load_ecdsa(algorithm: str, reader: Reader) -> tuple[int, _Loaded]:
    curve = _CURVES[algorithm]
    if reader.string() != curve.name.encode("ascii"):
        raise WireError(f"public key: {algorithm} with another curve's name inside")
    point = reader.string()
    if len(point) != curve.point_bytes or point[0] != UNCOMPRESSED_POINT:
        raise WireError(f"public key: {algorithm} with a point that is not uncompressed")
    # Raises ValueError for a point that is not on the curve.
    return curve.bits, ec.EllipticCurvePublicKey.from_encoded_point(curve.curve, point)


def _load_rsa(reader: Reader) -> tuple[int, _Loaded]:
    exponent, modulus = reader.mpint(), reader.mpint()
    bits = modulus.bit_length()
    if not RSA_MIN_BITS <= bits <= RSA_MAX_BITS:
        raise WireError(f"public key: RSA with {bits} bits, allowed are {RSA_MIN_BITS} to {RSA_MAX_BITS}")
    if exponent < 3 or exponent.bit_length() > RSA_EXPONENT_MAX_BITS or not exponent & 1 or not modulus & 1:
        raise WireError("public key: RSA with an impossible exponent or modulus")
    return bits, rsa.RSAPublicNumbers(exponent, modulus).public_key()


@lru_cache(_CACHED_KEYS)
def _load(blob: bytes) -> tuple[str, int, _Loaded]:
    if len(blob) > MAX_KEY_BYTES:
        raise WireError(f"public key: {len(blob)} bytes, at most {MAX_KEY_BYTES} are allowed")
    reader = Reader(blob, "public key")
    algorithm = reader.text()
    if algorithm not in _SIGNATURE_ALGORITHMS:
        raise WireError(f"public key: type {algorithm[:64]!r} is not supported", f"use one of {', '.join(KEY_TYPES)}")
    with _wire_errors("public key"):
        if algorithm == ED25519:
            bits, loaded = _load_ed25519(reader)
        elif algorithm == RSA:
            bits, loaded = _load_rsa(reader)
        else:
            bits, loaded = _load_ecdsa(algorithm, reader)
    reader.end()
    return algorithm, bits, loaded


def parse_public_key(blob: bytes) -> PublicKey:
    """Parse a plain public key: ed25519, ecdsa on a NIST curve, or RSA of 2048 to 8192 bits.

    Raises:
        WireError: any other type, a certificate, a point off its curve, bytes too many.

    Source: RFC 4253 section 6.6 (RSA), RFC 5656 section 3.1, RFC 8709 section 4.
    """
    blob = bytes(blob)
    algorithm, bits, _ = _load(blob)
    return PublicKey(algorithm, blob, bits)


def decode_base64(text: str, what: str) -> bytes:
    """Decode base64 in its only right spelling: no white space, right padding, no stray bits.

    Raises:
        WireError: any other spelling.
    """
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise WireError(f"{what}: not base64") from None
    if base64.b64encode(raw).decode("ascii") != text:
        raise WireError(f"{what}: not base64 in its canonical form")
    return raw


def parse_authorized(text: str) -> PublicKey:
    """Parse one line `TYPE BASE64 [COMMENT]`, as in a .pub file; options in front are not accepted.

    Raises:
        WireError: not one line of this form, or the type in front is not the type inside.
    """
    line = text.strip()
    if len(line) > MAX_AUTHORIZED_CHARS:
        raise WireError(f"public key line: more than {MAX_AUTHORIZED_CHARS} characters")
    words = line.split(None, 2)
    if len(words) < 2 or len(line.splitlines()) != 1:
        raise WireError("public key line: not of the form `TYPE BASE64 [COMMENT]`")
    key = parse_public_key(decode_base64(words[1], "public key line"))
    if words[0] != key.algorithm:
        raise WireError(f"public key line: starts with {words[0][:64]!r} but holds a {key.algorithm} key")
    return key


def signature_algorithms(key: PublicKey) -> tuple[str, ...]:
    """Return the signature algorithms that fit a key, the preferred one first; never `ssh-rsa`, which is SHA-1."""
    return _SIGNATURE_ALGORITHMS[key.algorithm]


def _verify_ecdsa(key: ec.EllipticCurvePublicKey, curve: _Curve, raw: bytes, message: bytes) -> None:
    reader = Reader(raw, "signature")
    r, s = reader.mpint(), reader.mpint()
    reader.end()
    if not r or not s or max(r.bit_length(), s.bit_length()) > curve.bits:
        raise WireError("signature: ecdsa numbers out of range")
    key.verify(encode_dss_signature(r, s), message, ec.ECDSA(curve.digest))


def verify(key: PublicKey, signature: bytes, message: bytes) -> None:
    """Check that a signature over a message was made with a key.

    Args:
        key: the signer's public key.
        signature: SSH signature blob, `string algorithm, string bytes`.
        message: the bytes that were signed, in full.

    Raises:
        WireError: the signature does not verify, does not parse, or its algorithm does not fit the key.

    Source: RFC 8709 section 6, RFC 5656 section 3.1.2, RFC 8332 section 3.
    """
    if len(signature) > MAX_SIGNATURE_BYTES:
        raise WireError(f"signature: {len(signature)} bytes, at most {MAX_SIGNATURE_BYTES} are allowed")
    reader = Reader(signature, "signature")
    algorithm, raw = reader.text(), reader.string()
    reader.end()
    if algorithm not in signature_algorithms(key):
        raise WireError(f"signature: algorithm {algorithm[:64]!r} does not fit a {key.algorithm} key")
    _, bits, loaded = _load(key.blob)
    with _wire_errors("signature"):
        if isinstance(loaded, ed25519.Ed25519PublicKey):
            if len(raw) != ED25519_SIGNATURE_BYTES:
                raise WireError(f"signature: ed25519 signature of {len(raw)} bytes")
            loaded.verify(raw, message)
        elif isinstance(loaded, ec.EllipticCurvePublicKey):
            _verify_ecdsa(loaded, _CURVES[algorithm], raw, message)
        else:
            # RFC 8017 section 8.2.2: exactly as long as the modulus.
            if len(raw) != (bits + 7) // 8:
                raise WireError(f"signature: RSA signature of {len(raw)} bytes")
            loaded.verify(raw, message, padding.PKCS1v15(), _RSA_DIGESTS[algorithm])
