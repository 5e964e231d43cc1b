# SPDX-License-Identifier: Apache-2.0
"""Which data was signed for a session: a second request with the same session id must be the same request.

A reconnecting relay may ask again for what it has asked for, so the same data passes as often as it likes.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

KEEP_S = 600.0
"""How long a session is remembered, seconds: far longer than any login takes (LoginGraceTime is 120 s)."""
MAX_SESSIONS = 65536
"""Most sessions remembered; the oldest is forgotten first. Reached only by tens of handles at their full rate."""


class SessionMemory:
    """Bounded memory of (handle, session id) -> digest of the signed data."""

    def __init__(self, max_sessions: int = MAX_SESSIONS) -> None:
        self._max = max_sessions
        self._seen: OrderedDict[tuple[str, bytes], tuple[bytes, float]] = OrderedDict()

    def admit(self, handle: str, session_id: bytes, data: bytes, now: float) -> bool:
        """Remember a request.

        Args:
            data: all that is to be signed.
            now: seconds.

        Returns:
            False when the session is known with other data; nothing has changed then.
        """
        self._forget(now)
        key, digest = (handle, session_id), hashlib.sha256(data).digest()
        known = self._seen.get(key)
        if known is not None:
            return known[0] == digest
        self._seen[key] = (digest, now)
        if len(self._seen) > self._max:
            self._seen.popitem(last=False)
        return True

    def _forget(self, now: float) -> None:
        while self._seen:
            first = next(iter(self._seen))
            if now - self._seen[first][1] < KEEP_S:
                return
            del self._seen[first]

    def __len__(self) -> int:
        return len(self._seen)
