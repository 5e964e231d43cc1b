# SPDX-License-Identifier: Apache-2.0
"""Rates of signatures and of lines about refusals."""

from __future__ import annotations

from glideinwms_bosco.broker.policy_model import Rate
from glideinwms_bosco.broker.rate import RateLimits, RefusalLines

RATE = Rate(burst=3, per_hour=60)


def takes(limits: RateLimits, now: float, count: int, handle: str = "h", factory: str = "f") -> list[int]:
    return [limits.take(handle, factory, RATE, now) for _ in range(count)]


def test_gives_the_burst_and_then_says_when() -> None:
    assert takes(RateLimits(), 0.0, 5) == [0, 0, 0, 60, 60]


def test_the_wait_is_rounded_up_to_a_time_that_suffices() -> None:
    limits = RateLimits()
    takes(limits, 0.0, 3)
    assert takes(limits, 59.5, 1) == [1]
    assert takes(limits, 60.5, 2) == [0, 60]


def test_never_saves_more_than_the_burst() -> None:
    limits = RateLimits()
    takes(limits, 0.0, 3)
    assert takes(limits, 1e6, 4) == [0, 0, 0, 60]


def test_a_clock_that_steps_back_gives_nothing_and_locks_nobody_out() -> None:
    limits = RateLimits()
    takes(limits, 1000.0, 3)
    assert takes(limits, 0.0, 1) == [60]
    assert takes(limits, 60.0, 1) == [0]


def test_each_handle_and_each_factory_has_its_own() -> None:
    limits = RateLimits()
    takes(limits, 0.0, 9)
    assert takes(limits, 0.0, 1, handle="other") == [0]
    assert takes(limits, 0.0, 1, factory="other") == [0]


def test_a_new_policy_does_not_refill() -> None:
    limits = RateLimits()
    takes(limits, 0.0, 3)
    takes(limits, 0.0, 3, handle="gone")
    limits.keep_only({"h"})
    assert takes(limits, 0.0, 1) == [60]
    assert takes(limits, 0.0, 1, handle="gone") == [0]


def test_a_lower_rate_counts_at_once() -> None:
    limits = RateLimits()
    limits.take("h", "f", Rate(100, 60), 0.0)
    assert [limits.take("h", "f", Rate(1, 60), 0.0) for _ in range(2)] == [0, 60]


def test_refusals_beyond_the_limit_are_counted_in_the_next_line() -> None:
    lines = RefusalLines(Rate(burst=2, per_hour=60))
    assert [lines.admit("f", 0.0) for _ in range(5)] == [0, 0, None, None, None]
    assert lines.admit("other", 0.0) == 0
    assert [lines.admit("f", 60.0), lines.admit("f", 120.0)] == [3, 0]
