# SPDX-License-Identifier: Apache-2.0
"""A handle: the name of a frontend's key, which travels in the place of the key and gives no power by itself.

glideinWMS carries it as an RSA private key that is authorised nowhere; the reference stands in the key's comment. The
private section of an unencrypted OpenSSH key is in clear, so reading it needs base64 and nothing else: no crypto
library is imported with this module, for the launcher reads a handle each time a gatekeeper is started.

Source: PROTOCOL.key of OpenSSH (`openssh-key-v1`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.errors import WireError
from glideinwms_bosco.sshwire.primitives import Reader, mpint, string, text, uint32

SUBMIT = "submit"
MAINTAIN = "maintain"

_LABELS = {SUBMIT: b"gwms-ssh-handle-v1", MAINTAIN: b"gwms-ssh-handle-v1-maintain"}
HANDLE_CHARS = 26
_HANDLE = re.compile(r"[a-z2-7]{26}", re.ASCII)
_PIN = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_PREFIX = "gwms-ssh-handle:"
_COMMENT = re.compile(r"gwms-ssh-handle:1:([a-z2-7]{26}):(sha256:[0-9a-f]{64})", re.ASCII)
# A public key as on the wire begins with a zero byte (its name is no longer than 2^24), so neither is ever the other.
_NAMED_ANCHOR = re.compile(rb"exec:[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

# A key of 16384 bits, far beyond what we make, is a text of 13 KiB.
MAX_TEXT_BYTES = 16384
RSA_BITS = 2048
RSA_EXPONENT = 65537

_BEGIN = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_END = b"-----END OPENSSH PRIVATE KEY-----"
_MAGIC = b"openssh-key-v1\0"
_KEY_TYPE = "ssh-rsa"
# n, e, d, iqmp, p, q
_RSA_NUMBERS = 6
# Padding of an unencrypted private section goes up to the block size of the cipher "none".
_BLOCK_BYTES = 8
_LINE_CHARS = 70


def named_anchor(entry: str) -> bytes:
    """Return the anchor of an entry whose key changes: its name at the broker, which outlives each key."""
    return b"exec:" + entry.encode("ascii")


def is_anchor_of(anchor: bytes, pubkey_blob: bytes) -> bool:
    """Tell whether a handle of this anchor may have this key: its own, or any when the anchor is a name."""
    return anchor == pubkey_blob or _NAMED_ANCHOR.fullmatch(anchor) is not None


def handle_id(spki_der: bytes, anchor: bytes, purpose: str) -> str:
    """Return the handle of a key at a broker: 26 characters of base32, 130 bits.

    Args:
        spki_der: SubjectPublicKeyInfo of the broker's TLS key, DER. It is what makes a handle certify itself: the
            relay computes it anew from the TLS peer, so no broker can offer another one's handle.
        anchor: the ssh public key, as on the wire; or a `named_anchor`, for a key that is fetched anew now and then.
        purpose: SUBMIT or MAINTAIN.

    Raises:
        WireError: another purpose.
    """
    label = _LABELS.get(purpose)
    if label is None:
        raise WireError(f"handle: purpose {purpose!r}", f"use {' or '.join(_LABELS)}")
    digest = hashlib.sha256(label + spki_der + anchor).digest()
    return base64.b32encode(digest).decode("ascii").lower()[:HANDLE_CHARS]


def spki_pin(spki_der: bytes) -> str:
    """Return the pin of a TLS key: `sha256:` and 64 lower case hex digits of its SubjectPublicKeyInfo."""
    return f"sha256:{hashlib.sha256(spki_der).hexdigest()}"


@dataclass(frozen=True)
class HandleReference:
    """Which handle, at which broker.

    Attributes:
        handle: as from `handle_id`.
        broker_pin: as from `spki_pin`.

    Raises:
        WireError: one of them has another form.
    """

    handle: str
    broker_pin: str

    def __post_init__(self) -> None:
        if not _HANDLE.fullmatch(self.handle):
            raise WireError(f"handle: {self.handle[:64]!r} is not {HANDLE_CHARS} characters of a-z and 2-7")
        if not _PIN.fullmatch(self.broker_pin):
            raise WireError(f"handle: broker {self.broker_pin[:80]!r} is not `sha256:` and 64 hex digits")

    @property
    def comment(self) -> str:
        """The form that stands in a key's comment."""
        return f"{_PREFIX}1:{self.handle}:{self.broker_pin}"


def _reference(comment: str) -> Optional[HandleReference]:
    if not comment.startswith(_PREFIX):
        return None
    match = _COMMENT.fullmatch(comment)
    if not match:
        raise WireError(
            "handle: the key's comment starts like a handle's but has another form", "make the handle key anew"
        )
    return HandleReference(match.group(1), match.group(2))


def _padding(size: int) -> bytes:
    """Return 1, 2, 3... in `size` bytes, never a whole block."""
    return bytes(range(1, 1 + min(size, _BLOCK_BYTES - 1)))


def _container(public_blob: bytes, numbers: bytes, comment: str) -> bytes:
    """Return an unencrypted openssh-key-v1 container of an RSA key; numbers are the six private mpints."""
    check = uint32(secrets.randbits(32))
    section = check + check + text(_KEY_TYPE) + numbers + text(comment)
    section += _padding(-len(section) % _BLOCK_BYTES)
    return _MAGIC + text("none") + text("none") + string(b"") + uint32(1) + string(public_blob) + string(section)


def make_handle_key(reference: HandleReference) -> tuple[str, str]:
    """Make a powerless RSA key that carries a reference.

    Returns:
        The private half as an unencrypted OpenSSH text, and the public half as one line with a newline.
    """
    from cryptography.hazmat.primitives.asymmetric import rsa

    numbers = rsa.generate_private_key(public_exponent=RSA_EXPONENT, key_size=RSA_BITS).private_numbers()
    e, n = numbers.public_numbers.e, numbers.public_numbers.n
    public_blob = text(_KEY_TYPE) + mpint(e) + mpint(n)
    private = b"".join(mpint(number) for number in (n, e, numbers.d, numbers.iqmp, numbers.p, numbers.q))
    encoded = base64.b64encode(_container(public_blob, private, reference.comment)).decode("ascii")
    lines = [encoded[at : at + _LINE_CHARS] for at in range(0, len(encoded), _LINE_CHARS)]
    private_text = "\n".join([_BEGIN.decode("ascii"), *lines, _END.decode("ascii"), ""])
    return private_text, f"{_KEY_TYPE} {base64.b64encode(public_blob).decode('ascii')} {reference.comment}\n"


def _unarmour(private_text: bytes) -> Optional[bytes]:
    """Return the container inside an OpenSSH private key text; None when the text is something else."""
    lines = private_text.strip().splitlines()
    if len(lines) < 3 or lines[0].rstrip() != _BEGIN or lines[-1].rstrip() != _END:
        return None
    try:
        return base64.b64decode(b"".join(line.strip() for line in lines[1:-1]), validate=True)
    except binascii.Error:
        return None


def _read_comment(container: bytes) -> str:
    """Return the comment of the one unencrypted RSA key of a container.

    Raises:
        WireError: it is no such container: encrypted, another key type, several keys, or damaged.
    """
    if not container.startswith(_MAGIC):
        raise WireError("private key: not an openssh-key-v1 container")
    outer = Reader(container[len(_MAGIC) :], "private key")
    head = (outer.string(), outer.string(), outer.string(), outer.uint32())
    if head != (b"none", b"none", b"", 1):
        raise WireError("private key: encrypted, or several keys")
    public_blob, section = outer.string(), outer.string()
    outer.end()
    inner = Reader(section, "private key")
    if inner.uint32() != inner.uint32():
        raise WireError("private key: its check numbers differ")
    if inner.string() != _KEY_TYPE.encode("ascii") or not public_blob.startswith(text(_KEY_TYPE)):
        raise WireError("private key: not RSA")
    for _ in range(_RSA_NUMBERS):
        inner.string()
    comment = inner.text()
    padding = inner.rest()
    if len(section) % _BLOCK_BYTES or padding != _padding(len(padding)):
        raise WireError("private key: wrong padding")
    return comment


def read_handle_text(private_text: bytes) -> Optional[HandleReference]:
    """Return the reference inside a private key text, or None for anything that is not a handle.

    None covers every other key (of another type, encrypted, with another comment) and every text that is no key: the
    caller leaves those to ssh.

    Raises:
        WireError: the key claims to be a handle, but its comment does not parse: a damaged or a newer one.
    """
    if len(private_text) > MAX_TEXT_BYTES:
        return None
    container = _unarmour(private_text)
    if container is None:
        return None
    try:
        comment = _read_comment(container)
    except WireError:
        return None
    return _reference(comment)
