# SPDX-License-Identifier: Apache-2.0
"""What a server proves in clear during the first key exchange: its host key and the signature over the session id.

An ssh client older than 8.9 does not tell its agent where it connects to. The server's reply says it just as well, and
it travels unencrypted, so a ProxyCommand that merely reads along can hand it on. Standard library only: the tap runs
once per connection and must start quickly.

Source: RFC 4253 sections 4.2, 6, 7 and 8, RFC 4419 section 3, RFC 5656 section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.errors import WireError
from glideinwms_bosco.sshwire.primitives import Reader

SSH_MSG_DISCONNECT = 1
SSH_MSG_IGNORE = 2
SSH_MSG_UNIMPLEMENTED = 3
SSH_MSG_DEBUG = 4
SSH_MSG_KEXINIT = 20
SSH_MSG_NEWKEYS = 21
# One number, three meanings: reply of (EC)DH, reply of a hybrid KEX, and the group that DH group exchange offers.
SSH_MSG_KEX_ECDH_REPLY = 31
SSH_MSG_KEX_DH_GEX_REPLY = 33

# SSH_MAX_BANNER_LEN and SSH_MAX_PRE_BANNER_LINES of OpenSSH's kex.c.
MAX_LINE_BYTES = 8192
MAX_LINES = 1024
# RFC 4253 section 6.1 asks for 35000; the largest reply seen (ML-KEM hybrid, host certificate) is below 8 KiB.
MAX_PACKET_BYTES = 65536
MAX_STREAM_BYTES = 1048576
MAX_PACKETS = 64
MAX_EVIDENCE = 4
MAX_HOST_KEY_BYTES = 8192
MAX_SIGNATURE_BYTES = 2048

_COOKIE_BYTES = 16
_NAME_LISTS = 10
_BLOCK_BYTES = 8
_MIN_PACKET_BYTES = 16
_MIN_PADDING_BYTES = 4
_IDENTIFICATIONS = (b"SSH-2.0-", b"SSH-1.99-")


@dataclass(frozen=True)
class KexEvidence:
    """Host key (or host certificate) blob, and the SSH signature blob over the session id."""

    host_key: bytes
    signature: bytes


class KexReader:
    """Reads a server's bytes up to its NEWKEYS; it never raises, and on nonsense it is merely `done`.

    At most one packet (MAX_PACKET_BYTES) or one line (MAX_LINE_BYTES) is kept from one `feed` to the next.

    Attributes:
        done: nothing more will come; later bytes are dropped unread.
    """

    def __init__(self) -> None:
        self.done = False
        self._buffer = bytearray()
        self._searched = 0
        self._lines = 0
        self._packets = 0
        self._evidence = 0
        self._stream_bytes = 0
        self._identified = False
        self._kexinit_seen = False

    def feed(self, data: bytes) -> list[KexEvidence]:
        """Take the next bytes of the server; return what they prove, usually nothing, once one KexEvidence."""
        found: list[KexEvidence] = []
        if self.done:
            return found
        self._stream_bytes += len(data)
        # A piece that ends the exchange may have any amount of encrypted data behind it: keep only what can matter.
        self._buffer += data[:MAX_STREAM_BYTES]
        try:
            self._read(found)
        except WireError:
            self.done = True
        if self._stream_bytes > MAX_STREAM_BYTES:
            self.done = True
        if self.done:
            self._buffer.clear()
        return found

    def _read(self, found: list[KexEvidence]) -> None:
        while not self._identified:
            if not self._line():
                return
        while not self.done:
            payload = self._payload()
            if payload is None:
                return
            evidence = self._message(payload)
            if evidence is not None:
                found.append(evidence)

    def _line(self) -> bool:
        """Take one line off the buffer; return False when it is not complete yet."""
        end = self._buffer.find(b"\n", self._searched, MAX_LINE_BYTES)
        if end < 0:
            if len(self._buffer) >= MAX_LINE_BYTES:
                raise WireError("key exchange: line without an end")
            # What was searched once is not searched again, or single bytes would cost quadratic time.
            self._searched = len(self._buffer)
            return False
        self._identified = bytes(self._buffer[:9]).startswith(_IDENTIFICATIONS)
        del self._buffer[: end + 1]
        self._searched = 0
        self._lines += 1
        if self._lines > MAX_LINES:
            raise WireError("key exchange: too many lines before the identification")
        return True

    def _payload(self) -> Optional[bytes]:
        """Take one unencrypted packet off the buffer; return None when it is not complete yet."""
        if len(self._buffer) < 5:
            return None
        size = 4 + int.from_bytes(self._buffer[:4], "big")
        if not _MIN_PACKET_BYTES <= size <= MAX_PACKET_BYTES or size % _BLOCK_BYTES:
            raise WireError("key exchange: impossible packet length")
        padding = self._buffer[4]
        if padding < _MIN_PADDING_BYTES or size - 5 - padding < 1:
            raise WireError("key exchange: impossible padding")
        if len(self._buffer) < size:
            return None
        payload = bytes(self._buffer[5 : size - padding])
        del self._buffer[:size]
        self._packets += 1
        if self._packets > MAX_PACKETS:
            raise WireError("key exchange: too many packets")
        return payload

    def _message(self, payload: bytes) -> Optional[KexEvidence]:
        kind = payload[0]
        if kind in (SSH_MSG_IGNORE, SSH_MSG_UNIMPLEMENTED, SSH_MSG_DEBUG):
            return None
        if kind == SSH_MSG_KEXINIT and not self._kexinit_seen:
            _check_kexinit(payload)
            self._kexinit_seen = True
            return None
        if not self._kexinit_seen or kind in (SSH_MSG_DISCONNECT, SSH_MSG_KEXINIT, SSH_MSG_NEWKEYS):
            self.done = True
            return None
        if kind not in (SSH_MSG_KEX_ECDH_REPLY, SSH_MSG_KEX_DH_GEX_REPLY):
            return None
        evidence = _read_reply(payload)
        if evidence is not None:
            self._evidence += 1
            if self._evidence > MAX_EVIDENCE:
                raise WireError("key exchange: too many replies")
        return evidence


def _check_kexinit(payload: bytes) -> None:
    """Check the shape of a KEXINIT.

    The value of first_kex_packet_follows does not matter: after a wrong guess the server's next packet is a reply that
    the client drops, and which guess is wrong only the client's side tells. Both replies are handed on, and only the
    one of the exchange that counts verifies for the session id.
    """
    reader = Reader(payload[1 + _COOKIE_BYTES :], "KEXINIT")
    for _ in range(_NAME_LISTS):
        reader.string()
    reader.boolean()
    reader.uint32()
    reader.end()


def _read_reply(payload: bytes) -> Optional[KexEvidence]:
    """Read host key, the server's share, signature; return None for the group of DH group exchange (p and g)."""
    reader = Reader(payload[1:], "key exchange reply")
    host_key = reader.string()
    reader.string()
    if payload[0] == SSH_MSG_KEX_ECDH_REPLY and not reader.left:
        return None
    signature = reader.string()
    reader.end()
    if not 0 < len(host_key) <= MAX_HOST_KEY_BYTES or not 0 < len(signature) <= MAX_SIGNATURE_BYTES:
        raise WireError("key exchange reply: impossible size of host key or signature")
    return KexEvidence(host_key, signature)
