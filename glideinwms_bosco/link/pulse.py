# SPDX-License-Identifier: Apache-2.0
"""Notice that the peer is gone although no packet says so: PING now and then, dead when no PONG comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Optional

from glideinwms_bosco.errors import WireError


class Pulse:
    """Pings from the start on.

    A PONG counts, other frames do not: only a PONG shows that the peer reads what we write.

    Args:
        every_s: seconds between pings.
        dead_after_s: seconds without a PONG.
        ping: sends a PING with this nonce.
        dead: called once, then nothing more happens.
    """

    def __init__(
        self, every_s: float, dead_after_s: float, ping: Callable[[int], None], dead: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._every_s = every_s
        self._dead_after_s = dead_after_s
        self._ping = ping
        self._dead = dead
        self._sent_at: dict[int, float] = {}  # nonce -> time; holds dead_after_s / every_s nonces, about
        self._last_nonce = 0
        self._heard_at = self._loop.time()
        self._timer: Optional[asyncio.TimerHandle] = None
        self.rtt_s: Optional[float] = None
        self._beat()

    def _beat(self) -> None:
        now = self._loop.time()
        left_s = self._heard_at + self._dead_after_s - now
        if left_s <= 0:
            self._dead()
            return
        self._last_nonce += 1
        self._sent_at[self._last_nonce] = now
        self._timer = self._loop.call_later(min(self._every_s, left_s), self._beat)
        self._ping(self._last_nonce)

    def pong(self, nonce: int) -> None:
        """Take the peer's answer.

        Raises:
            WireError: no such PING is open.
        """
        if nonce not in self._sent_at:
            raise WireError("PONG without its PING")
        self._heard_at = self._loop.time()
        self.rtt_s = self._heard_at - self._sent_at[nonce]
        for older in [sent for sent in self._sent_at if sent <= nonce]:
            del self._sent_at[older]

    def stop(self) -> None:
        """No more pings."""
        if self._timer is not None:
            self._timer.cancel()
