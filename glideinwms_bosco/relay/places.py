# SPDX-License-Identifier: Apache-2.0
"""How many agent connections may be open: per handle, per broker and in all, so that none uses up what others need."""

from __future__ import annotations

from collections import Counter

MAX_OF_HANDLE = 64
"""An ssh holds one connection for the time of its login."""
MAX_OF_BROKER = 512
MAX_OF_RELAY = 1024
RESERVED_OF_BROKER = 16
"""Places that each broker has even so: two whose brokers hang, or one with two keys, must not take all there are."""


class Places:
    """Counts the open connections of a relay."""

    def __init__(self) -> None:
        self._of_handle: Counter[str] = Counter()
        self._of_broker: Counter[str] = Counter()
        self.taken = 0

    def of_handle(self, handle: str) -> int:
        """Open connections of a handle."""
        return self._of_handle[handle]

    def of_broker(self, pin: str) -> int:
        """Open connections of all handles of a broker."""
        return self._of_broker[pin]

    def take(self, handle: str, pin: str) -> str:
        """Take a place, to be given back by `leave`.

        Returns:
            Which limit is reached; empty when the place is taken.
        """
        if self._of_handle[handle] >= MAX_OF_HANDLE:
            return f"{MAX_OF_HANDLE} agent connections of this handle"
        if self._of_broker[pin] >= MAX_OF_BROKER:
            return f"{MAX_OF_BROKER} agent connections of this broker's handles"
        if self.taken >= MAX_OF_RELAY and self._of_broker[pin] >= RESERVED_OF_BROKER:
            return f"{MAX_OF_RELAY} agent connections of this relay"
        self._of_handle[handle] += 1
        self._of_broker[pin] += 1
        self.taken += 1
        return ""

    def leave(self, handle: str, pin: str) -> None:
        """Give a place back."""
        for counter, key in ((self._of_handle, handle), (self._of_broker, pin)):
            counter[key] -= 1
            if not counter[key]:
                del counter[key]
        self.taken -= 1
