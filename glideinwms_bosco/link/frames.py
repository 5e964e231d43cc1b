# SPDX-License-Identifier: Apache-2.0
"""Frames of the broker-relay link: `uint32 length | byte type | uint32 rid | body`. No I/O."""

from __future__ import annotations

import struct
from typing import NamedTuple

from glideinwms_bosco.errors import WireError

MAX_FRAME = 65536
"""Bytes behind the length field, at most: type, rid and body."""
MIN_FRAME = 5
MAX_BODY = MAX_FRAME - MIN_FRAME
_LENGTH = struct.Struct(">I")
_HEAD = struct.Struct(">IBI")


class Frame(NamedTuple):
    """One frame, body not yet understood."""

    type: int
    rid: int
    body: bytes


def encode(type: int, rid: int, body: bytes) -> bytes:
    """Write one frame.

    Raises:
        WireError: the body is longer than MAX_BODY.
    """
    if len(body) > MAX_BODY:
        raise WireError(f"frame of type 0x{type:02x}: body of {len(body)} bytes, at most {MAX_BODY} fit")
    return _HEAD.pack(MIN_FRAME + len(body), type, rid) + body


class Decoder:
    """Cuts a byte stream into frames; holds at most one unfinished frame between calls."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes of the stream, return the frames that are complete now.

        Raises:
            WireError: a length outside MIN_FRAME..MAX_FRAME, noticed before its body is waited for. The stream is
                lost then; do not feed again.
        """
        if self._held:
            data = self._held + data
        frames = []
        at = 0
        size = len(data)
        while size - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(data, at)
            if not MIN_FRAME <= length <= MAX_FRAME:
                raise WireError(f"frame of {length} bytes, allowed are {MIN_FRAME} to {MAX_FRAME}")
            end = at + _LENGTH.size + length
            if end > size:
                break
            _, kind, rid = _HEAD.unpack_from(data, at)
            frames.append(Frame(kind, rid, data[at + _HEAD.size : end]))
            at = end
        self._held = data[at:]
        return frames
