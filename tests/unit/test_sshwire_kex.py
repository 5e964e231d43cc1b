# SPDX-License-Identifier: Apache-2.0
"""Reading along in a key exchange: the reply is found however the bytes are cut, and nonsense only ends the reading."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from glideinwms_bosco.sshwire import kex
from glideinwms_bosco.sshwire.kex import KexEvidence, KexReader
from glideinwms_bosco.sshwire.primitives import byte, string, text, uint32
from tests.unit.ssh_builder import kex_reply, kexinit, packet

BANNER = b"SSH-2.0-OpenSSH_9.2p1\r\n"
NEWKEYS = packet(b"\x15")
START = BANNER + packet(kexinit())
REPLY = packet(kex_reply())
GROUP = packet(byte(31) + string(b"P" * 256) + string(b"\2"))
EXPECTED = KexEvidence(b"K" * 51, b"S" * 83)


def read(stream: bytes, step: int = 0) -> tuple[list[KexEvidence], bool]:
    """Everything a stream proves, fed at once or in pieces of `step` bytes; whether the reader is done."""
    reader = KexReader()
    found: list[KexEvidence] = []
    for at in range(0, len(stream), step or len(stream) or 1):
        found += reader.feed(stream[at : at + (step or len(stream))])
    return found, reader.done


@pytest.mark.parametrize("step", [0, 1, 2, 3, 7, 64, 1000])
@pytest.mark.parametrize(
    "stream",
    [
        START + REPLY + NEWKEYS,
        START + REPLY + NEWKEYS + b"encrypted from here on" * 100,
        b"Welcome to the cluster\nno access without key\r\n" + START + REPLY + NEWKEYS,
        b"SSH-1.99-OpenSSH_3.9\n" + packet(kexinit()) + REPLY + NEWKEYS,
        BANNER + packet(kexinit(follows=1)) + REPLY + NEWKEYS,
        START + packet(kex_reply(kind=33)) + NEWKEYS,
        START + GROUP + packet(kex_reply(kind=33)) + NEWKEYS,
        BANNER + packet(byte(2) + string(b"noise")) + packet(kexinit()) + packet(byte(4) + bytes(9)) + REPLY + NEWKEYS,
        START + packet(kex_reply(), padding=4 + (-(9 + len(kex_reply()))) % 8 + 240) + NEWKEYS,
    ],
)
def test_finds_the_reply_and_stops_at_newkeys(stream: bytes, step: int) -> None:
    assert read(stream, step) == ([EXPECTED], True)


def test_hands_on_both_replies_after_a_wrong_guess() -> None:
    stream = BANNER + packet(kexinit(follows=1)) + packet(kex_reply(b"guess")) + REPLY + NEWKEYS
    assert read(stream) == ([KexEvidence(b"guess", b"S" * 83), EXPECTED], True)


def test_reply_is_returned_by_the_very_piece_that_completes_it() -> None:
    reader = KexReader()
    assert reader.feed(START + REPLY[:-1]) == []
    assert reader.feed(REPLY[-1:]) == [EXPECTED]
    assert not reader.done


def test_drops_all_bytes_after_newkeys() -> None:
    reader = KexReader()
    reader.feed(START + NEWKEYS)
    assert reader.done
    assert reader.feed(START + REPLY) == []


def test_waits_for_the_rest() -> None:
    whole = START + REPLY
    for cut in range(len(whole)):
        assert read(whole[:cut]) == ([], False), cut


def padded(payload_bytes: int, filler: bytes = b"\x02") -> bytes:
    """A packet of an exact total size with the least padding, so that limits can be met."""
    return uint32(payload_bytes + 5) + byte(4) + filler.ljust(payload_bytes, b"\0") + bytes(4)


@pytest.mark.parametrize(
    "stream",
    [
        b"\0" * kex.MAX_LINE_BYTES,
        b"x" * kex.MAX_LINE_BYTES + b"\n" + START + REPLY,
        b"\n" * (kex.MAX_LINES + 1),
        BANNER + REPLY,
        BANNER + NEWKEYS,
        START + packet(kexinit()) + REPLY,
        START + packet(byte(1) + uint32(2) + text("bye") + text("")) + REPLY,
        BANNER + packet(byte(20)) + REPLY,
        BANNER + packet(kexinit()[:-1]) + REPLY,
        BANNER + packet(kexinit() + b"\0") + REPLY,
        BANNER + packet(kexinit(follows=2)) + REPLY,
        START + packet(kex_reply() + b"\0") + REPLY,
        START + packet(kex_reply()[:-1]) + REPLY,
        START + packet(kex_reply(host_key=b"")) + REPLY,
        START + packet(kex_reply(signature=b"")) + REPLY,
        START + packet(kex_reply(host_key=bytes(kex.MAX_HOST_KEY_BYTES + 1))) + REPLY,
        START + packet(kex_reply(signature=bytes(kex.MAX_SIGNATURE_BYTES + 1))) + REPLY,
        START + packet(byte(33) + string(b"P") + string(b"G")) + REPLY,
        START + packet(byte(31) + string(b"P")) + REPLY,
        START + packet(byte(31)) + REPLY,
        START + uint32(12) + byte(12) + bytes(11) + REPLY,
        START + uint32(12) + byte(3) + bytes(11) + REPLY,
        START + uint32(12) + byte(255) + bytes(11) + REPLY,
        START + uint32(4) + bytes(4) + REPLY,
        START + uint32(13) + byte(4) + bytes(12) + REPLY,
        START + uint32(0) + REPLY,
        START + uint32(2**32 - 1) + REPLY,
        START + uint32(kex.MAX_PACKET_BYTES + 4) + REPLY,
        BANNER + packet(b"\2") * (kex.MAX_PACKETS + 1),
        START + padded(kex.MAX_PACKET_BYTES - 9 - 4 - 4) * 17,
    ],
)
def test_nonsense_ends_the_reading_without_evidence(stream: bytes) -> None:
    assert read(stream) == ([], True)
    assert read(stream, 97) == ([], True)


def test_takes_what_is_at_the_limits() -> None:
    lines = b"x" * (kex.MAX_LINE_BYTES - 1) + b"\n"
    assert read(lines + START + REPLY) == ([EXPECTED], False)
    assert read(b"\n" * (kex.MAX_LINES - 1) + START + REPLY) == ([EXPECTED], False)
    largest = kex_reply(bytes(kex.MAX_HOST_KEY_BYTES), bytes(kex.MAX_SIGNATURE_BYTES))
    found, done = read(START + packet(largest))
    assert (len(found), done) == (1, False)
    packet_of_most_bytes = padded(kex.MAX_PACKET_BYTES - 9)
    assert len(packet_of_most_bytes) == kex.MAX_PACKET_BYTES
    assert read(START + packet_of_most_bytes + REPLY) == ([EXPECTED], False)
    assert read(START + packet(b"\2") * (kex.MAX_PACKETS - 2) + REPLY) == ([EXPECTED], False)


def test_ends_after_too_many_replies() -> None:
    found, done = read(START + REPLY * (kex.MAX_EVIDENCE + 1))
    assert (found, done) == ([EXPECTED] * kex.MAX_EVIDENCE, True)


def test_keeps_little_of_an_endless_stream() -> None:
    reader = KexReader()
    for _ in range(1000):
        reader.feed(b"\0" * 4096)
    assert reader.done
    assert sys.getsizeof(reader._buffer) < 2 * kex.MAX_PACKET_BYTES


def test_needs_nothing_but_the_standard_library() -> None:
    """The tap and the launcher start once per connection, on hosts where no crypto library need be."""
    program = (
        "import sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from glideinwms_bosco.sshwire import agent, handle, kex, primitives, userauth\n"
        "print('cryptography' in sys.modules)\n"
        "print(sorted({name.split('.')[1] for name in sys.modules if name.startswith('glideinwms_bosco.')}))\n"
    )
    argv = [sys.executable, "-I", "-c", program, str(Path(kex.__file__).parents[2])]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30)
    assert done.stdout.splitlines() == ["False", "['errors', 'sshwire']"]
