# SPDX-License-Identifier: Apache-2.0
"""Limits: signatures for each handle and factory, and lines about refusals in the audit log. The caller has the clock.

Each factory has a bucket of its own for a handle, so that one that floods the broker takes nothing from another.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.broker.policy_model import Rate

HOUR_S = 3600.0
REFUSALS = Rate(burst=120, per_hour=3600)
"""Refusals of one factory that get a line of their own in the audit log; the others are counted in the next line."""


@dataclass
class _Bucket:
    tokens: float
    filled_at: float


class RateLimits:
    """Token buckets, full at first use. Keys are handle and factory name, both from the policy: so there are few."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def take(self, handle: str, factory: str, rate: Rate, now: float) -> int:
        """Take one token.

        Args:
            now: any clock in seconds; one that steps back gives no tokens and takes none.

        Returns:
            0, or the seconds until the next token, at least 1.
        """
        bucket = self._buckets.setdefault((handle, factory), _Bucket(float(rate.burst), now))
        per_second = rate.per_hour / HOUR_S
        gained = max(0.0, now - bucket.filled_at) * per_second
        bucket.tokens = min(float(rate.burst), bucket.tokens + gained)
        bucket.filled_at = now
        if bucket.tokens >= 1.0:
            bucket.tokens -= 1.0
            return 0
        return max(1, math.ceil((1.0 - bucket.tokens) / per_second))

    def keep_only(self, handles: Collection[str]) -> None:
        """Forget handles that a new policy no longer has; the others keep what they have used up."""
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if key[0] in handles}


class RefusalLines:
    """Decides which refusals get a line in the audit log, so that no factory can fill the disk with them."""

    def __init__(self, rate: Rate = REFUSALS) -> None:
        self._rate = rate
        self._limits = RateLimits()
        self._left_out: dict[str, int] = {}

    def admit(self, factory: str, now: float) -> Optional[int]:
        """Ask for a line.

        Returns:
            How many refusals of this factory were left out since its last line; None: leave this one out too.
        """
        if self._limits.take("", factory, self._rate, now):
            self._left_out[factory] = self._left_out.get(factory, 0) + 1
            return None
        return self._left_out.pop(factory, 0)
