# SPDX-License-Identifier: Apache-2.0
"""The answer of a remote program is parsed strictly; login-shell noise before it does not matter."""

from __future__ import annotations

import pytest

from glideinwms_bosco.remote.messages import MAX_LINE_BYTES, MessageFormatError, one_line, parse_reply

BEGIN = b"\nGWMS-BOSCO-BEGIN n1\n"
END = b"GWMS-BOSCO-END n1\n"


@pytest.mark.parametrize("noise", [b"", b"Welcome!\n", b"no newline", b"\xff\xfe\n", b"GWMS-BOSCO-BEGIN n2\nKEY x\n"])
def test_drops_noise_before_begin(noise: bytes) -> None:
    reply = parse_reply(noise + BEGIN + b"ARCH x86_64\nEMPTY\n" + END, "n1")
    assert reply.begun
    assert reply.ended
    assert reply.only("ARCH") == "x86_64"
    assert reply.values("EMPTY") == ("",)


@pytest.mark.parametrize("cut", [1, 5, len(END)])
def test_cut_off_answer_has_not_ended(cut: int) -> None:
    reply = parse_reply((BEGIN + b"ARCH x86_64\n" + END)[:-cut], "n1")
    assert reply.begun
    assert not reply.ended


def test_answer_without_begin_is_all_noise() -> None:
    reply = parse_reply(b"This account is currently not available.\n", "n1")
    assert not reply.begun
    assert reply.noise == "This account is currently not available."


@pytest.mark.parametrize(
    "body",
    [b"lower x\n", b"\n", b"-X\n", b"\xff x\n", b"K" * 33 + b"\n", END + b"KEY x\n", END + b"x",
     b"KEY " + b"x" * (MAX_LINE_BYTES - 3) + b"\n"],
)  # fmt: skip
def test_refuses_malformed_body(body: bytes) -> None:
    with pytest.raises(MessageFormatError):
        parse_reply(BEGIN + body + END, "n1")


def test_names_in_any_encoding_do_not_spoil_the_answer() -> None:
    """A file called in Latin-1, and a text that was cut within a character."""
    reply = parse_reply(BEGIN + b"KEY caf\xe9\nTEXT gr\xc3\n" + END, "n1")
    assert (reply.only("KEY"), reply.only("TEXT")) == ("caf\ufffd", "gr\ufffd")


def test_accepts_line_at_limit() -> None:
    reply = parse_reply(BEGIN + b"KEY " + b"x" * (MAX_LINE_BYTES - 4) + b"\n" + END, "n1")
    assert len(reply.only("KEY")) == MAX_LINE_BYTES - 4


@pytest.mark.parametrize("body", [b"", b"KEY a\nKEY b\n"])
def test_only_refuses_none_and_two(body: bytes) -> None:
    with pytest.raises(MessageFormatError, match="KEY"):
        parse_reply(BEGIN + body + END, "n1").only("KEY")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ümlaut", "plain ümlaut"),
        (" two\r\nlines\t tab ", "two lines tab"),
        ("\x1b[2J\x1b]0;title\x07x", "?[2J?]0;title?x"),
        ("a\x7fb\x9bc\x00d", "a?b?c?d"),
        ("a\u2028b\u2029c", "a b c"),
        ("a\u202eb", "a?b"),
        ("", ""),
    ],
)
def test_text_from_outside_is_one_harmless_line(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_text_from_outside_is_cut_beyond_its_limit() -> None:
    assert one_line("x" * 20, 20) == "x" * 20
    assert one_line("x" * 21, 20) == "x" * 17 + "..."
