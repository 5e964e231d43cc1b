# SPDX-License-Identifier: Apache-2.0
"""What broker and relay say to each other: one frozen class per message, to bytes and back. No I/O.

A text that will be shown to an operator (names, reasons, comments) is made printable while it is read, so that a
peer cannot forge lines of a log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import IntEnum, IntFlag
from typing import ClassVar, Union

from glideinwms_bosco.errors import WireError
from glideinwms_bosco.link.frames import MAX_BODY, OFFER_TYPE
from glideinwms_bosco.sshwire.primitives import Reader, string, text, uint32, uint64

MAGIC = "gwms-ssh-broker"
VERSION = 1
MAX_LINE_CHARS = 1000
"""Characters of a text meant for the operator's eye; the rest is cut."""
MAX_FEATURES = 64
MAX_EVIDENCE = 4
MAX_OFFERED = 1024
"""Handles of one broker."""
FIRST_IGNORABLE_TYPE = 0x80
"""A type at or above this one that is not known is passed over; below it ends the connection."""


class OfferFlag(IntFlag):
    """What a handle allows besides a signature with proof of destination."""

    UNPROVEN = 1
    CERT_SIGN = 2


class GoAwayCode(IntEnum):
    """Why a side closes."""

    CLOSING = 0
    PROTOCOL = 1
    VERSION = 2
    NOT_REGISTERED = 3
    OVERLOAD = 4


def printable(value: str) -> str:
    """One line of at most MAX_LINE_CHARS characters, safe to show: `?` stands for what is not printable."""
    return "".join(c if c.isprintable() else "?" for c in value[:MAX_LINE_CHARS])


def _line(reader: Reader) -> str:
    return printable(reader.text())


@dataclass(frozen=True)
class Hello:
    """First frame of both sides.

    Attributes:
        name: how the sender calls itself; shown, never trusted.
        unix_ms: the sender's clock, milliseconds since 1970.
        features: words for what the sender can do beyond version 1; unknown ones are ignored.
    """

    TYPE: ClassVar[int] = 0x01

    name: str
    software: str
    unix_ms: int
    features: tuple[str, ...] = ()
    version_min: int = VERSION
    version_max: int = VERSION

    def body(self) -> bytes:
        """Bytes of the message."""
        features = uint32(len(self.features)) + b"".join(text(feature) for feature in self.features)
        versions = uint32(self.version_min) + uint32(self.version_max)
        return text(MAGIC) + versions + text(self.software) + text(self.name) + uint64(self.unix_ms) + features


@dataclass(frozen=True)
class OfferItem:
    """One handle that the broker signs for.

    Attributes:
        pubkey_blob: ssh wire form of the real public key.
        anchor: what the handle is made of: the key itself, or a name for a key that changes (`handle.named_anchor`).
        cert_blob: the user certificate (`cert+sign`); empty without one.
        comment: what ssh shows for the key.
        purpose: `submit` or `maintain`.
        hosts: comma separated `name:port`.
        known_hosts_text: lines for ssh's UserKnownHostsFile.
        not_before: unix seconds; 0 for no limit.
        not_after: unix seconds; 0 for no limit.
        flags: OfferFlag bits.
    """

    handle: str
    pubkey_blob: bytes
    anchor: bytes
    cert_blob: bytes
    comment: str
    purpose: str
    user: str
    hosts: str
    known_hosts_text: str
    not_before: int = 0
    not_after: int = 0
    flags: int = 0


@dataclass(frozen=True)
class Offer:
    """Everything the broker signs for on this connection; replaces the offer before it.

    Attributes:
        generation: 1.. UINT32_MAX, grows with every offer; travels as the frame's rid.
    """

    TYPE: ClassVar[int] = OFFER_TYPE

    generation: int
    items: tuple[OfferItem, ...]

    def body(self) -> bytes:
        """Bytes of the message."""
        return uint32(len(self.items)) + b"".join(_offer_item(item) for item in self.items)


@dataclass(frozen=True)
class OfferResult:
    """The relay's word on one offered handle; code 0 means it serves it."""

    handle: str
    code: int
    reason: str = ""


@dataclass(frozen=True)
class OfferAck:
    """Answer to Offer, one result per item."""

    TYPE: ClassVar[int] = 0x03

    results: tuple[OfferResult, ...]

    @classmethod
    def fitting(cls, results: Iterable[OfferResult]) -> OfferAck:
        """Leave out reasons that would not fit into the frame; the codes say enough."""
        results = tuple(results)
        left = MAX_BODY - len(cls(tuple(replace(result, reason="") for result in results)).body())
        kept = []
        for result in results:
            left -= len(result.reason.encode("utf-8"))
            kept.append(result if left >= 0 else replace(result, reason=""))
        return cls(tuple(kept))

    def body(self) -> bytes:
        """Bytes of the message."""
        results = (text(result.handle) + uint32(result.code) + text(result.reason) for result in self.results)
        return uint32(len(self.results)) + b"".join(results)


@dataclass(frozen=True)
class Sign:
    """The relay asks for one signature.

    Attributes:
        context: JSON, advisory: what the relay claims about the client.
        binds: bodies of the session-bind messages that the client sent, in order.
        evidence: pairs (host key blob, signature over the exchange hash), at most MAX_EVIDENCE.
        data: what is to be signed, as the client sent it.
        flags: of the agent's sign request.
    """

    TYPE: ClassVar[int] = 0x10

    handle: str
    context: str
    binds: tuple[bytes, ...]
    evidence: tuple[tuple[bytes, bytes], ...]
    data: bytes
    flags: int = 0

    def __post_init__(self) -> None:
        if len(self.evidence) > MAX_EVIDENCE:
            raise WireError(f"SIGN: {len(self.evidence)} pieces of evidence, at most {MAX_EVIDENCE}")

    def body(self) -> bytes:
        """Bytes of the message."""
        binds = b"".join(map(string, self.binds))
        evidence = b"".join(string(string(host_key) + string(signature)) for host_key, signature in self.evidence)
        head = text(self.handle) + text(self.context)
        return head + string(binds) + string(evidence) + string(self.data) + uint32(self.flags)


@dataclass(frozen=True)
class SignOk:
    """An ssh signature blob."""

    TYPE: ClassVar[int] = 0x11

    signature: bytes

    def body(self) -> bytes:
        """Bytes of the message."""
        return string(self.signature)


@dataclass(frozen=True)
class Deny:
    """A refusal; `code` is a DenyCode, or a number that a newer broker knows."""

    TYPE: ClassVar[int] = 0x1F

    code: int
    reason: str
    retry_after_s: int = 0

    def body(self) -> bytes:
        """Bytes of the message."""
        return uint32(self.code) + text(self.reason) + uint32(self.retry_after_s)


@dataclass(frozen=True)
class Ping:
    """Are you there."""

    TYPE: ClassVar[int] = 0x20

    nonce: int

    def body(self) -> bytes:
        """Bytes of the message."""
        return uint64(self.nonce)


@dataclass(frozen=True)
class Pong:
    """The same nonce back."""

    TYPE: ClassVar[int] = 0x21

    nonce: int

    def body(self) -> bytes:
        """Bytes of the message."""
        return uint64(self.nonce)


@dataclass(frozen=True)
class GoAway:
    """The sender closes now. `code` is a GoAwayCode, or a number that a newer peer knows."""

    TYPE: ClassVar[int] = 0x30

    code: int
    reason: str

    def body(self) -> bytes:
        """Bytes of the message."""
        return uint32(self.code) + text(self.reason)


Message = Union[Hello, Offer, OfferAck, Sign, SignOk, Deny, Ping, Pong, GoAway]
Request = Union[Offer, Sign]
Answer = Union[OfferAck, SignOk, Deny]

ANSWERS: dict[int, tuple[int, ...]] = {
    Offer.TYPE: (OfferAck.TYPE,),
    Sign.TYPE: (SignOk.TYPE, Deny.TYPE),
}
"""Type of a request -> types that answer it."""


def _offer_item(item: OfferItem) -> bytes:
    keys = text(item.handle) + string(item.pubkey_blob) + string(item.anchor) + string(item.cert_blob)
    place = text(item.comment) + text(item.purpose) + text(item.user) + text(item.hosts) + text(item.known_hosts_text)
    return keys + place + uint64(item.not_before) + uint64(item.not_after) + uint32(item.flags)


def _count(reader: Reader, at_least_bytes: int, what: str) -> int:
    """A number of items that the bytes behind it can hold, so that no list is made for a number alone."""
    count = reader.uint32()
    if count * at_least_bytes > reader.left:
        raise WireError(f"{what}: {count} items announced, more than the frame holds")
    return count


def _read_hello(reader: Reader, _rid: int) -> Hello:
    if reader.text() != MAGIC:
        raise WireError("HELLO: the peer is no broker or relay")
    low, high = reader.uint32(), reader.uint32()
    software, name, unix_ms = _line(reader), _line(reader), reader.uint64()
    count = _count(reader, 4, "HELLO")
    if count > MAX_FEATURES:
        raise WireError(f"HELLO: {count} features, at most {MAX_FEATURES}")
    features = tuple(_line(reader) for _ in range(count))
    return Hello(name, software, unix_ms, features, low, high)


_OFFER_ITEM_BYTES = 9 * 4 + 2 * 8 + 4


def _read_offer_item(reader: Reader) -> OfferItem:
    return OfferItem(
        handle=_line(reader),
        pubkey_blob=reader.string(),
        anchor=reader.string(),
        cert_blob=reader.string(),
        comment=_line(reader),
        purpose=_line(reader),
        user=_line(reader),
        hosts=reader.text(),
        known_hosts_text=reader.text(),
        not_before=reader.uint64(),
        not_after=reader.uint64(),
        flags=reader.uint32(),
    )


def _read_offer(reader: Reader, rid: int) -> Offer:
    count = _count(reader, _OFFER_ITEM_BYTES, "OFFER")
    if count > MAX_OFFERED:
        raise WireError(f"OFFER: {count} handles, at most {MAX_OFFERED}")
    return Offer(rid, tuple(_read_offer_item(reader) for _ in range(count)))


def _read_offer_ack(reader: Reader, _rid: int) -> OfferAck:
    count = _count(reader, 12, "OFFER_ACK")
    return OfferAck(tuple(OfferResult(_line(reader), reader.uint32(), _line(reader)) for _ in range(count)))


def _read_sign(reader: Reader, _rid: int) -> Sign:
    handle, context = _line(reader), reader.text()
    binds = _read_strings(reader.string(), "SIGN: binds")
    evidence = tuple(_read_evidence(piece) for piece in _read_strings(reader.string(), "SIGN: evidence"))
    return Sign(handle, context, binds, evidence, reader.string(), reader.uint32())


def _read_strings(data: bytes, what: str) -> tuple[bytes, ...]:
    reader = Reader(data, what)
    found = []
    while reader.left:
        found.append(reader.string())
    return tuple(found)


def _read_evidence(data: bytes) -> tuple[bytes, bytes]:
    reader = Reader(data, "SIGN: evidence")
    pair = reader.string(), reader.string()
    reader.end()
    return pair


@dataclass(frozen=True)
class _Form:
    """How one type is read."""

    name: str
    read: Callable[[Reader, int], Message] = field(repr=False)


# Source: the table of frame types of protocol version 1.
_FORMS: dict[int, _Form] = {
    Hello.TYPE: _Form("HELLO", _read_hello),
    Offer.TYPE: _Form("OFFER", _read_offer),
    OfferAck.TYPE: _Form("OFFER_ACK", _read_offer_ack),
    Sign.TYPE: _Form("SIGN", _read_sign),
    SignOk.TYPE: _Form("SIGN_OK", lambda reader, _: SignOk(reader.string())),
    Deny.TYPE: _Form("DENY", lambda reader, _: Deny(reader.uint32(), _line(reader), reader.uint32())),
    Ping.TYPE: _Form("PING", lambda reader, _: Ping(reader.uint64())),
    Pong.TYPE: _Form("PONG", lambda reader, _: Pong(reader.uint64())),
    GoAway.TYPE: _Form("GOAWAY", lambda reader, _: GoAway(reader.uint32(), _line(reader))),
}


def ignorable(type: int) -> bool:
    """True for a type that this version does not know and may pass over."""
    return type >= FIRST_IGNORABLE_TYPE and type not in _FORMS


def parse(type: int, rid: int, body: bytes) -> Message:
    """Read the body of a frame.

    Raises:
        WireError: type not known, body cut off, wrong, or longer than the message.
    """
    form = _FORMS.get(type)
    if form is None:
        raise WireError(f"frame of unknown type 0x{type:02x}")
    reader = Reader(body, form.name)
    message = form.read(reader, rid)
    reader.end()
    return message
