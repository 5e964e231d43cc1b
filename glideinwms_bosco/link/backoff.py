# SPDX-License-Identifier: Apache-2.0
"""How long to wait before dialling again: doubling, bounded, and spread so that brokers do not come back as one."""

from __future__ import annotations

import random
from collections.abc import Callable

SHORTEST_S = 1.0
LONGEST_S = 60.0


class Backoff:
    """Delays between attempts to connect.

    The n-th delay lies between half of min(60, 2**n) s and all of it, so never below 1 s or above 60 s.

    Args:
        fraction: gives numbers from 0 to below 1.
    """

    def __init__(self, fraction: Callable[[], float] = random.random) -> None:
        self._fraction = fraction
        self._ceiling_s = 2 * SHORTEST_S

    def next_delay_s(self) -> float:
        """Seconds to wait before the next attempt."""
        ceiling_s = self._ceiling_s
        self._ceiling_s = min(LONGEST_S, 2 * ceiling_s)
        return ceiling_s * (1 + self._fraction()) / 2

    def reset(self) -> None:
        """Start over. Call it for a connection that has proved good, not as soon as it stands: a relay that takes
        connections and drops them at once must not be dialled in a tight loop."""
        self._ceiling_s = 2 * SHORTEST_S
