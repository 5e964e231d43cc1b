# SPDX-License-Identifier: Apache-2.0
"""Lines that our programs on the login node print: `KEY value`, between a begin and an end marker. Pure.

Whatever the login shell prints before the begin marker is noise. The markers carry a nonce of the run, so noise cannot
look like an answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_LINE_BYTES = 4096
MAX_MESSAGES = 50_000
MAX_SHOWN_CHARS = 300  # of a text from outside, within a sentence for the operator
BEGIN = "GWMS-BOSCO-BEGIN"
END = "GWMS-BOSCO-END"
_KEY = re.compile(r"[A-Z][A-Z0-9-]{0,31}")
# Control characters move the cursor, set titles or colours; the others end a line or turn the writing direction.
_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def one_line(text: str, max_chars: int = MAX_SHOWN_CHARS) -> str:
    """Return text from another machine as it may stand in a sentence on the operator's terminal.

    Line ends and runs of white space become one blank, other control characters `?`; what is longer than `max_chars`
    ends in `...`.
    """
    shown = _UNSHOWABLE.sub("?", " ".join(text.split()))
    return shown if len(shown) <= max_chars else shown[: max_chars - 3] + "..."


class MessageFormatError(ValueError):
    """The output of a remote program does not follow the protocol; the text says how."""


@dataclass(frozen=True)
class Message:
    """One line of a remote program: `key`, and the rest of the line (may be empty)."""

    key: str
    value: str


@dataclass(frozen=True)
class Reply:
    """The parsed output of one run.

    Attributes:
        noise: what stood before the begin marker.
        begun, ended: whether the markers were seen; an answer counts only when it has ended.
        messages: the lines between them.
    """

    noise: str
    begun: bool
    ended: bool
    messages: tuple[Message, ...]

    def values(self, key: str) -> tuple[str, ...]:
        """Return the values of all messages with this key, in order."""
        return tuple(message.value for message in self.messages if message.key == key)

    def only(self, key: str) -> str:
        """Return the value of the one message with this key.

        Raises:
            MessageFormatError: when there is none or more than one.
        """
        values = self.values(key)
        if len(values) != 1:
            raise MessageFormatError(f"{len(values)} lines {key} where one is expected")
        return values[0]


def parse_reply(output: bytes, nonce: str) -> Reply:
    """Split the standard output of a remote program.

    Bytes that are not UTF-8 become U+FFFD: names of files there may hold any, and a text may be cut within a character.

    Raises:
        MessageFormatError: for a line that is too long, has no valid key, or follows the end marker.
    """
    begin, end = f"{BEGIN} {nonce}".encode("ascii"), f"{END} {nonce}".encode("ascii")
    lines = output.split(b"\n")
    if begin not in lines:
        return Reply(output.decode("utf-8", "replace").strip(), False, False, ())
    start = lines.index(begin)
    noise = b"\n".join(lines[:start]).decode("utf-8", "replace").strip()
    # The last piece is what follows the final newline: empty, or a line cut off by a lost connection.
    body = lines[start + 1 : -1]
    ended = end in body
    if ended:
        stop = body.index(end)
        if body[stop + 1 :] or lines[-1]:
            raise MessageFormatError("output after the end marker")
        body = body[:stop]
    if len(body) > MAX_MESSAGES:
        raise MessageFormatError(f"more than {MAX_MESSAGES} lines")
    return Reply(noise, True, ended, tuple(_parse_line(line) for line in body))


def _parse_line(line: bytes) -> Message:
    if len(line) > MAX_LINE_BYTES:
        raise MessageFormatError(f"a line is longer than {MAX_LINE_BYTES} bytes")
    text = line.decode("utf-8", "replace")
    key, _, value = text.partition(" ")
    if not _KEY.fullmatch(key):
        raise MessageFormatError(f"unexpected line: {text[:80]!r}")
    return Message(key, value)
