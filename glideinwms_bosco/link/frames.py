# SPDX-License-Identifier: Apache-2.0
"""Frames of the broker-relay link: `uint32 length | byte type | uint32 rid | body`. No I/O."""

from __future__ import annotations

import struct
from typing import NamedTuple

from glideinwms_bosco.errors import WireError

MAX_FRAME = 65536
"""Bytes behind the length field, at most: type, rid and body."""
OFFER_TYPE = 0x02
MAX_OFFER_FRAME = 3 << 20
"""The same of an offer: some 2,000 handles. Less than what may wait to be written (4 MiB), so that it can be sent."""
MIN_FRAME = 5
MAX_BODY = MAX_FRAME - MIN_FRAME
MAX_OFFER_BODY = MAX_OFFER_FRAME - MIN_FRAME
_LENGTH = struct.Struct(">I")
_HEAD = struct.Struct(">IBI")
_TYPE_AT = _LENGTH.size


class Frame(NamedTuple):
    """One frame, body not yet understood."""

    type: int
    rid: int
    body: bytes


def _most(type: int) -> int:
    return MAX_OFFER_FRAME if type == OFFER_TYPE else MAX_FRAME


def encode(type: int, rid: int, body: bytes) -> bytes:
    """Write one frame.

    Raises:
        WireError: the body is longer than MAX_BODY, of an offer than MAX_OFFER_BODY.
    """
    if MIN_FRAME + len(body) > _most(type):
        raise WireError(f"frame of type 0x{type:02x}: body of {len(body)} bytes, at most {_most(type) - MIN_FRAME} fit")
    return _HEAD.pack(MIN_FRAME + len(body), type, rid) + body


class Decoder:
    """Cuts a byte stream into frames; holds at most one unfinished frame between calls."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._wanted = 0  # bytes without which a look at what is held is in vain

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes of the stream, return the frames that are complete now.

        Raises:
            WireError: a length outside of what its type may have, noticed before its body is waited for. The stream
                is lost then; do not feed again.
        """
        if self._held:
            # In place: a large frame comes in many pieces, and none may cost a copy of all before it.
            self._held += data
            if len(self._held) < self._wanted:
                return []
            data = bytes(self._held)
        frames = []
        at = 0
        size = len(data)
        self._wanted = 0
        while size - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(data, at)
            # With its type not there yet, the frame may still be an offer; no more than a length is held of it.
            most = _most(data[at + _TYPE_AT] if size - at > _TYPE_AT else OFFER_TYPE)
            if not MIN_FRAME <= length <= most:
                raise WireError(f"frame of {length} bytes, allowed are {MIN_FRAME} to {most}")
            end = at + _LENGTH.size + length
            if end > size:
                self._wanted = end - at if size - at > _TYPE_AT else 0
                break
            _, kind, rid = _HEAD.unpack_from(data, at)
            frames.append(Frame(kind, rid, data[at + _HEAD.size : end]))
            at = end
        self._held = bytearray(data[at:])
        return frames
