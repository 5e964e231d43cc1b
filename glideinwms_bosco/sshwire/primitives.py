# SPDX-License-Identifier: Apache-2.0
"""The data types of RFC 4251 section 5, read strictly and written."""

from __future__ import annotations

from glideinwms_bosco.errors import WireError

UINT32_MAX = 0xFFFFFFFF


class Reader:
    """Takes values off the front of some bytes.

    Args:
        data: everything there is.
        what: names the message in errors.
    """

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._at = 0
        self._what = what

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise WireError(f"{self._what}: cut off")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._at

    def byte(self) -> int:
        """An unsigned byte."""
        return self._take(1)[0]

    def boolean(self) -> bool:
        """A byte that must be 0 or 1: other true values would give one meaning two forms."""
        value = self.byte()
        if value > 1:
            raise WireError(f"{self._what}: boolean with value {value}")
        return value == 1

    def uint32(self) -> int:
        """Four bytes, most significant first."""
        return int.from_bytes(self._take(4), "big")

    def uint64(self) -> int:
        """Eight bytes, most significant first."""
        return int.from_bytes(self._take(8), "big")

    def string(self) -> bytes:
        """Any bytes behind their length."""
        # In one piece, not by `uint32`: almost all of a message is strings.
        start = self._at + 4
        end = start + int.from_bytes(self._data[self._at : start], "big")
        if end > len(self._data):
            raise WireError(f"{self._what}: cut off")
        self._at = end
        return self._data[start:end]

    def text(self) -> str:
        """A string that is UTF-8."""
        try:
            return self.string().decode("utf-8")
        except UnicodeDecodeError:
            raise WireError(f"{self._what}: text that is not UTF-8") from None

    def mpint(self) -> int:
        """A non-negative integer in its shortest form."""
        raw = self.string()
        if raw and raw[0] & 0x80:
            raise WireError(f"{self._what}: negative number")
        if raw and raw[0] == 0 and (len(raw) == 1 or not raw[1] & 0x80):
            raise WireError(f"{self._what}: number with a needless zero in front")
        return int.from_bytes(raw, "big")

    def rest(self) -> bytes:
        """All that is left."""
        return self._take(self.left)

    def end(self) -> None:
        """Refuse bytes behind the last value."""
        if self.left:
            raise WireError(f"{self._what}: {self.left} bytes too many")


def byte(value: int) -> bytes:
    """An unsigned byte."""
    return value.to_bytes(1, "big")


def boolean(value: bool) -> bytes:
    """A byte, 0 or 1."""
    return b"\1" if value else b"\0"


def uint32(value: int) -> bytes:
    """Four bytes, most significant first."""
    return value.to_bytes(4, "big")


def uint64(value: int) -> bytes:
    """Eight bytes, most significant first."""
    return value.to_bytes(8, "big")


def string(value: bytes) -> bytes:
    """Bytes behind their length."""
    return uint32(len(value)) + value


def text(value: str) -> bytes:
    """UTF-8 behind its length."""
    return string(value.encode("utf-8"))


def mpint(value: int) -> bytes:
    """A non-negative integer in its shortest form."""
    return string(value.to_bytes(value.bit_length() // 8 + 1, "big") if value else b"")
