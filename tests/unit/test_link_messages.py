# SPDX-License-Identifier: Apache-2.0
"""Messages: to bytes and back, and everything that is not a message is a WireError."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from glideinwms_bosco.errors import WireError
from glideinwms_bosco.link import messages
from glideinwms_bosco.link.messages import (
    Deny,
    GoAway,
    Hello,
    Message,
    Offer,
    OfferAck,
    OfferFlag,
    OfferItem,
    OfferResult,
    Ping,
    Pong,
    Sign,
    SignOk,
    ignorable,
    parse,
)
from glideinwms_bosco.sshwire.primitives import string, text, uint32, uint64

ITEM = OfferItem(
    handle="a" * 26,
    pubkey_blob=b"\0\0\0\x0bssh-ed25519",
    anchor=b"exec:juwels-cms",
    cert_blob=b"",
    comment="gwms-broker:aaaa",
    purpose="submit",
    user="cmspilot",
    hosts="login1.example.org:22,login2.example.org:2222",
    known_hosts_text="login1.example.org ssh-ed25519 AAAA\nlogin2.example.org ssh-ed25519 AAAA\n",
    not_before=0,
    not_after=1_900_000_000,
    flags=OfferFlag.CERT_SIGN | OfferFlag.UNPROVEN,
)
SIGN = Sign("a" * 26, '{"entry":"x"}', (b"bind", b""), ((b"host key", b"signature"),), b"data", 4)
ALL: list[Message] = [
    Hello("osg-sdsc", "glideinwms-bosco/1", 1_800_000_000_123, ("one", "two")),
    Offer(9, ()),
    Offer(9, (ITEM, replace(ITEM, purpose="maintain", cert_blob=b"cert"))),
    OfferAck((OfferResult("a" * 26, 0), OfferResult("b" * 26, 19, "not this frontend's"))),
    SIGN,
    SignOk(b"signature"),
    Deny(15, "more than 60 in an hour", 30),
    Ping(2**64 - 1),
    Pong(0),
    GoAway(1, "why"),
]


@pytest.mark.parametrize("message", ALL, ids=lambda message: type(message).__name__)
def test_reads_what_it_writes(message: Message) -> None:
    assert parse(message.TYPE, 9, message.body()) == message


@pytest.mark.parametrize("message", ALL, ids=lambda message: type(message).__name__)
def test_refuses_every_cut_and_any_byte_more(message: Message) -> None:
    body = message.body()
    for end in range(len(body)):
        with pytest.raises(WireError):
            parse(message.TYPE, 9, body[:end])
    with pytest.raises(WireError, match="too many"):
        parse(message.TYPE, 9, body + b"\0")


def test_every_type_has_its_number() -> None:
    numbers = {type(message).__name__: message.TYPE for message in ALL}

    assert numbers == {
        "Hello": 0x01,
        "Offer": 0x02,
        "OfferAck": 0x03,
        "Sign": 0x10,
        "SignOk": 0x11,
        "Deny": 0x1F,
        "Ping": 0x20,
        "Pong": 0x21,
        "GoAway": 0x30,
    }


def test_sign_has_the_layout_of_the_protocol() -> None:
    evidence = string(string(b"host key") + string(b"signature"))
    head = text("a" * 26) + text('{"entry":"x"}') + string(string(b"bind") + string(b"")) + string(evidence)

    assert SIGN.body() == head + string(b"data") + uint32(4)


def test_offer_item_has_the_layout_of_the_protocol() -> None:
    keys = text(ITEM.handle) + string(ITEM.pubkey_blob) + string(ITEM.anchor) + string(b"") + text(ITEM.comment)
    place = text("submit") + text("cmspilot") + text(ITEM.hosts) + text(ITEM.known_hosts_text)

    assert Offer(1, (ITEM,)).body() == uint32(1) + keys + place + uint64(0) + uint64(1_900_000_000) + uint32(3)


def test_offer_takes_its_generation_from_the_frame() -> None:
    offer = parse(Offer.TYPE, 77, Offer(9, ()).body())

    assert isinstance(offer, Offer)
    assert offer.generation == 77


@pytest.mark.parametrize("number", [0x00, 0x04, 0x12, 0x7F])
def test_unknown_low_types_are_errors(number: int) -> None:
    assert not ignorable(number)
    with pytest.raises(WireError, match=f"0x{number:02x}"):
        parse(number, 1, b"")


@pytest.mark.parametrize("number", [0x80, 0xFF])
def test_unknown_high_types_may_be_passed_over(number: int) -> None:
    assert ignorable(number)


def test_refuses_a_hello_of_something_else() -> None:
    with pytest.raises(WireError, match="no broker or relay"):
        parse(Hello.TYPE, 0, ALL[0].body().replace(b"gwms-ssh-broker", b"gwms-ssh-brokes"))


@pytest.mark.parametrize(
    ("type_", "body"),
    [(Offer.TYPE, uint32(0xFFFFFFFF)), (OfferAck.TYPE, uint32(2) + b"\0" * 12), (Offer.TYPE, uint32(1) + b"\0" * 51)],
)
def test_refuses_a_count_that_the_frame_cannot_hold(type_: int, body: bytes) -> None:
    with pytest.raises(WireError, match="more than the frame holds"):
        parse(type_, 1, body)


def test_features_are_limited() -> None:
    most = Hello("n", "s", 0, ("f",) * messages.MAX_FEATURES)
    assert parse(Hello.TYPE, 0, most.body()) == most
    with pytest.raises(WireError, match="65 features"):
        parse(Hello.TYPE, 0, replace(most, features=(*most.features, "g")).body())


def test_more_than_four_pieces_of_evidence_cannot_be_made_or_read() -> None:
    pair = (b"k", b"s")
    four = replace(SIGN, evidence=(pair,) * 4)
    piece = string(string(b"k") + string(b"s"))
    assert parse(Sign.TYPE, 1, four.body()) == four
    with pytest.raises(WireError, match="at most 4"):
        replace(SIGN, evidence=(pair,) * 5)
    with pytest.raises(WireError, match="at most 4"):
        parse(Sign.TYPE, 1, four.body().replace(string(piece * 4), string(piece * 5)))


def test_a_peer_cannot_forge_lines_of_a_log() -> None:
    deny = parse(Deny.TYPE, 1, Deny(1, "no\nroot: all is well\x1b[2J" + "x" * 2000).body())

    assert isinstance(deny, Deny)
    assert deny.reason.startswith("no?root: all is well?[2J")
    assert len(deny.reason) == messages.MAX_LINE_CHARS


def test_known_hosts_keep_their_lines() -> None:
    offer = parse(Offer.TYPE, 1, Offer(1, (ITEM,)).body())

    assert isinstance(offer, Offer)
    assert offer.items[0].known_hosts_text == ITEM.known_hosts_text


def test_mutated_bodies_parse_or_raise_wire_error() -> None:
    """Invariant: parses or raises WireError, nothing else."""
    dice = random.Random(4251)  # noqa: S311  (no secret, and the same each time)
    for _ in range(4000):
        message = dice.choice(ALL)
        body = bytearray(message.body())
        for _ in range(dice.randint(1, 4)):
            if body:
                body[dice.randrange(len(body))] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))
        try:
            parse(message.TYPE, dice.randrange(2**32), bytes(body))
        except WireError:
            pass
