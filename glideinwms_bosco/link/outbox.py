# SPDX-License-Identifier: Apache-2.0
"""Bytes on their way out: bounded, and joined so that the frames of one turn of the loop are one TLS record."""

from __future__ import annotations

import asyncio


class Outbox:
    """Writes frames to a transport.

    Args:
        most_bytes: that may wait here and in the transport.
    """

    def __init__(self, transport: asyncio.Transport, most_bytes: int) -> None:
        self._transport = transport
        self._most_bytes = most_bytes
        self._loop = asyncio.get_running_loop()
        self._frames: list[bytes] = []
        self._bytes = 0

    @property
    def waiting_bytes(self) -> int:
        """Written and not yet taken by the peer's side."""
        try:
            return self._bytes + self._transport.get_write_buffer_size()
        except AttributeError:  # Python 3.9 and 3.10, between the loss of the socket and connection_lost()
            return self._bytes

    def put(self, frame: bytes) -> bool:
        """Send a frame; False, and nothing done, when there is no room."""
        if self.waiting_bytes + len(frame) > self._most_bytes:
            return False
        if not self._frames:
            self._loop.call_soon(self._flush)
        self._frames.append(frame)
        self._bytes += len(frame)
        return True

    def _flush(self) -> None:
        if self._frames and not self._transport.is_closing():
            self._transport.write(b"".join(self._frames))
        self._frames.clear()
        self._bytes = 0

    def close(self) -> None:
        """Write what is left, then end in good order."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Cut, whatever is left."""
        self._frames.clear()
        self._bytes = 0
        self._transport.abort()
