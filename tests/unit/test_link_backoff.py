# SPDX-License-Identifier: Apache-2.0
"""Delays between attempts to connect."""

from __future__ import annotations

import random

import pytest

from glideinwms_bosco.link.backoff import LONGEST_S, SHORTEST_S, Backoff

CEILINGS_S = [2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.parametrize(("fraction", "share"), [(0.0, 0.5), (0.5, 0.75), (1.0, 1.0)])
def test_doubles_up_to_a_minute(fraction: float, share: float) -> None:
    backoff = Backoff(lambda: fraction)

    assert [backoff.next_delay_s() for _ in CEILINGS_S] == [ceiling * share for ceiling in CEILINGS_S]


def test_stays_within_bounds_and_is_spread() -> None:
    backoff = Backoff(random.Random(1).random)  # noqa: S311  (no secret, and the same each time)

    delays = [backoff.next_delay_s() for _ in range(500)]

    assert all(SHORTEST_S <= delay <= LONGEST_S for delay in delays)
    assert len({round(delay, 1) for delay in delays[6:]}) > 100


def test_starts_over_after_reset() -> None:
    backoff = Backoff(lambda: 0.0)
    for _ in range(9):
        backoff.next_delay_s()

    backoff.reset()

    assert [backoff.next_delay_s(), backoff.next_delay_s()] == [1, 2]
