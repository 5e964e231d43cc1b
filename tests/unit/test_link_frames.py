# SPDX-License-Identifier: Apache-2.0
"""Frames: what is cut out of a stream, at the limits and byte by byte."""

from __future__ import annotations

import time

import pytest

from glideinwms_bosco.errors import WireError
from glideinwms_bosco.link.frames import (
    MAX_BODY,
    MAX_FRAME,
    MAX_OFFER_BODY,
    MAX_OFFER_FRAME,
    OFFER_TYPE,
    Decoder,
    Frame,
    encode,
)


def test_writes_length_type_rid_and_body() -> None:
    assert encode(0x10, 7, b"ab") == bytes.fromhex("00000007 10 00000007 6162")


def test_reads_several_frames_of_one_chunk() -> None:
    stream = encode(0x20, 0, b"one") + encode(0x10, 0xFFFFFFFF, b"")

    assert Decoder().feed(stream) == [Frame(0x20, 0, b"one"), Frame(0x10, 0xFFFFFFFF, b"")]


def test_reads_byte_by_byte_what_it_reads_whole() -> None:
    stream = encode(1, 2, b"x" * 300) + encode(3, 4, b"") + encode(5, 6, b"y")
    decoder = Decoder()

    found = [frame for at in range(len(stream)) for frame in decoder.feed(stream[at : at + 1])]

    assert found == Decoder().feed(stream)


def test_largest_frame_passes() -> None:
    stream = encode(1, 1, b"x" * MAX_BODY)

    assert len(stream) == 4 + MAX_FRAME
    assert Decoder().feed(stream) == [Frame(1, 1, b"x" * MAX_BODY)]


def test_largest_offer_passes_whole_and_in_pieces() -> None:
    body = b"x" * MAX_OFFER_BODY
    stream = encode(OFFER_TYPE, 1, body) + encode(1, 2, b"next")
    expected = [Frame(OFFER_TYPE, 1, body), Frame(1, 2, b"next")]
    decoder = Decoder()

    assert Decoder().feed(stream) == expected
    assert [f for at in range(0, len(stream), 16384) for f in decoder.feed(stream[at : at + 16384])] == expected


def test_large_frame_costs_no_copy_for_each_of_its_bytes() -> None:
    """Attack: an offer byte by byte; with a copy of all that is held for each, this takes hours."""
    stream = encode(OFFER_TYPE, 1, b"x" * (1 << 20))
    decoder = Decoder()
    began = time.process_time()

    for at in range(len(stream) - 1):
        assert not decoder.feed(stream[at : at + 1])

    assert len(decoder.feed(stream[-1:])) == 1
    assert time.process_time() - began < 10


@pytest.mark.parametrize(("kind", "most"), [(1, MAX_BODY), (OFFER_TYPE, MAX_OFFER_BODY)])
def test_refuses_to_write_a_larger_one(kind: int, most: int) -> None:
    with pytest.raises(WireError, match=str(most)):
        encode(kind, 1, b"x" * (most + 1))


@pytest.mark.parametrize("kind", [0x00, 0x01, 0x03, 0x10, 0x20, 0x80, 0xFF])
def test_only_an_offer_may_be_larger(kind: int) -> None:
    with pytest.raises(WireError, match=f"frame of {MAX_FRAME + 1} bytes"):
        Decoder().feed((MAX_FRAME + 1).to_bytes(4, "big") + bytes([kind]))
    assert Decoder().feed((MAX_FRAME + 1).to_bytes(4, "big") + bytes([OFFER_TYPE])) == []


@pytest.mark.parametrize("length", [0, 4, MAX_OFFER_FRAME + 1, 0xFFFFFFFF])
def test_refuses_a_bad_length_before_the_body_comes(length: int) -> None:
    with pytest.raises(WireError, match=f"frame of {length} bytes"):
        Decoder().feed(length.to_bytes(4, "big"))


def test_holds_no_more_than_one_unfinished_frame() -> None:
    decoder = Decoder()
    whole = encode(1, 1, b"x" * 1000)

    decoder.feed(whole * 50 + whole[:-1])

    assert decoder.feed(whole[-1:]) == [Frame(1, 1, b"x" * 1000)]
    assert decoder.feed(b"") == []
