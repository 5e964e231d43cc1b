# SPDX-License-Identifier: Apache-2.0
"""Spoils well-formed ssh messages: blindly, and where it hurts most, at their length fields.

Plain bytearray work and few random numbers per case: the parsers under test shall be the larger part of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

MAX_CASE_BYTES = 131072
INTERESTING_BYTES = (0, 1, 2, 4, 5, 6, 11, 13, 20, 21, 27, 31, 33, 50, 0x7F, 0x80, 0xFF)
INTERESTING_SIZES = (0, 1, 2, 4, 20, 31, 32, 33, 64, 255, 8192, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 5, 2**32 - 1)
FILLERS = (b"", b"\0", b"\xff", b"\x80", b"\n", b"a", b"ssh-rsa", b"\0\0\0\1a", b"\xc3\xa9", b"\x01" * 64)


def length_fields(seed: bytes) -> list[int]:
    """Offsets at which four bytes could be the length of a string that still fits."""
    size = len(seed)
    return [at for at in range(size - 3) if int.from_bytes(seed[at : at + 4], "big") <= size - at - 4]


class Mutator:
    """An endless source of cases made from seeds; the same random state gives the same cases.

    Args:
        seeds: well-formed inputs, none of them empty.
    """

    def __init__(self, seeds: Sequence[bytes], random: Random) -> None:
        self._seeds = [(seed, length_fields(seed) or [0]) for seed in seeds]
        self._random = random.random
        self._steps = (
            self._flip, self._flip, self._set_byte, self._size, self._size, self._nudge_size, self._restring,
            self._restring, self._cut, self._drop, self._repeat, self._insert, self._splice,
        )  # fmt: skip

    def _below(self, limit: int) -> int:
        return int(self._random() * limit)

    def case(self) -> bytes:
        """Make the next case."""
        seed, fields = self._seeds[self._below(len(self._seeds))]
        data = bytearray(seed)
        # Half of the cases have one defect, so that it is not hidden behind another.
        for _ in range(1 + int(3 * self._random() ** 2)):
            if not data:
                break
            self._steps[self._below(len(self._steps))](data, fields)
        return bytes(data[:MAX_CASE_BYTES])

    def _flip(self, data: bytearray, _: list[int]) -> None:
        data[self._below(len(data))] ^= 1 << self._below(8)

    def _set_byte(self, data: bytearray, _: list[int]) -> None:
        data[self._below(len(data))] = INTERESTING_BYTES[self._below(len(INTERESTING_BYTES))]

    def _size(self, data: bytearray, fields: list[int]) -> None:
        at = fields[self._below(len(fields))]
        size = INTERESTING_SIZES[self._below(len(INTERESTING_SIZES))]
        data[at : at + 4] = size.to_bytes(4, "big")

    def _nudge_size(self, data: bytearray, fields: list[int]) -> None:
        at = fields[self._below(len(fields))]
        size = int.from_bytes(data[at : at + 4], "big") + (1 if self._random() < 0.5 else -1)
        data[at : at + 4] = (size & 0xFFFFFFFF).to_bytes(4, "big")

    def _restring(self, data: bytearray, fields: list[int]) -> None:
        """Give a string other contents and the right length."""
        at = fields[self._below(len(fields))]
        size = int.from_bytes(data[at : at + 4], "big")
        doubled = bytes(data[at + 4 : at + 4 + size]) * 2
        contents = doubled if self._random() < 0.5 else FILLERS[self._below(len(FILLERS))]
        data[at : at + 4 + size] = len(contents).to_bytes(4, "big") + contents

    def _cut(self, data: bytearray, _: list[int]) -> None:
        del data[self._below(len(data)) :]

    def _drop(self, data: bytearray, _: list[int]) -> None:
        at = self._below(len(data))
        del data[at : at + 1 + self._below(16)]

    def _repeat(self, data: bytearray, _: list[int]) -> None:
        at = self._below(len(data))
        piece = data[at : at + 1 + self._below(64)]
        data[at:at] = piece * (1 + self._below(4))

    def _insert(self, data: bytearray, _: list[int]) -> None:
        at = self._below(len(data))
        data[at:at] = FILLERS[self._below(len(FILLERS))]

    def _splice(self, data: bytearray, _: list[int]) -> None:
        other, _fields = self._seeds[self._below(len(self._seeds))]
        data[self._below(len(data)) :] = other[self._below(len(other)) :]
