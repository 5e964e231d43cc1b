# SPDX-License-Identifier: Apache-2.0
"""How far apart pilots start: the formula against simulated starts, and its limits."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from glideinwms_bosco.errors import WebProxyError
from glideinwms_bosco.site.web_proxies import Capacity
from glideinwms_bosco.webproxy.capacity import (
    MAX_SPREAD_S,
    MIN_STARTS_PER_S,
    OVERLOAD_PROBABILITY,
    SETUP_REQUESTS,
    most_pilots,
    poisson_tail,
    spread_s,
    starts_per_s,
)


def busiest(pilots: int, window_s: int, rng: random.Random) -> int:
    """Starts in the busiest second."""
    return max(Counter(int(rng.random() * window_s) for _ in range(pilots)).values())


@pytest.mark.parametrize(("pilots", "starts"), [(200, 10), (500, 41), (1000, 50), (300, 12)])
def test_simulated_starts_stay_under_the_rate(pilots: int, starts: int) -> None:
    window = spread_s(pilots, starts)
    assert window is not None
    rng = random.Random(20261120)  # noqa: S311
    runs = 1000
    over = sum(busiest(pilots, window, rng) > starts for _ in range(runs))
    # One is expected at most; six would be seen in less than one of a thousand tests.
    assert over < 6
    # The window is not much longer than it must be: a half of it fails far more often than is allowed.
    shorter = sum(busiest(pilots, max(1, window // 2), rng) > starts for _ in range(300))
    assert shorter / 300 > 10 * OVERLOAD_PROBABILITY


def test_requests_of_the_busiest_second_stay_under_the_budget() -> None:
    capacity = Capacity(requests_per_s=240)
    window = spread_s(200, starts_per_s(capacity))
    assert window is not None
    rng = random.Random(7)  # noqa: S311
    assert all(busiest(200, window, rng) * SETUP_REQUESTS <= 240 for _ in range(300))


@pytest.mark.parametrize(
    ("capacity", "starts"),
    [
        (Capacity(requests_per_s=SETUP_REQUESTS - 1), 0),
        (Capacity(requests_per_s=SETUP_REQUESTS), 1),
        (Capacity(requests_per_s=100 * SETUP_REQUESTS), 100),
        (Capacity(clients=1), MIN_STARTS_PER_S),
        (Capacity(clients=200), 10),
        (Capacity(clients=1000), 50),
    ],
)
def test_starts_in_one_second(capacity: Capacity, starts: int) -> None:
    assert starts_per_s(capacity) == starts


def test_few_pilots_need_no_window() -> None:
    assert [spread_s(pilots, 5) for pilots in (0, 1, 5)] == [0, 0, 0]
    assert (spread_s(6, 5) or 0) > 0


def test_window_grows_with_pilots_and_shrinks_with_the_rate() -> None:
    by_pilots = [spread_s(pilots, 20) or 0 for pilots in range(0, 1001, 50)]
    assert by_pilots == sorted(by_pilots)
    assert by_pilots[-1] > by_pilots[1] > 0
    by_rate = [spread_s(500, starts) or 0 for starts in range(10, 101, 10)]
    assert by_rate == sorted(by_rate, reverse=True)


@pytest.mark.parametrize("starts", [1, 3, 8, 10, 41])
def test_most_pilots_is_the_last_number_that_fits(starts: int) -> None:
    most = most_pilots(starts)
    assert spread_s(most, starts) is not None
    assert spread_s(most + 1, starts) is None
    assert (spread_s(most, starts) or 0) <= MAX_SPREAD_S


def test_nothing_fits_a_proxy_that_bears_no_start() -> None:
    assert most_pilots(0) == 0
    assert spread_s(1, 0) is None


@pytest.mark.parametrize("clients", [1, 9, 10, 11, 50, 199, 200, 1000, 20_000, 1_000_000])
def test_clients_within_their_capacity_always_get_a_window(clients: int) -> None:
    assert spread_s(clients, starts_per_s(Capacity(clients=clients))) is not None


@pytest.mark.parametrize(("mean", "above"), [(0.1, 1), (0.1, 2), (2.5, 5), (26.5, 50), (880.0, 1000)])
def test_tail_is_that_of_the_distribution(mean: float, above: int) -> None:
    below = math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(above + 1))
    assert poisson_tail(mean, above) == pytest.approx(1 - below, rel=1e-6, abs=1e-12)


def test_tail_of_nothing_is_nothing_and_a_body_is_no_tail() -> None:
    assert poisson_tail(0.0, 0) == 0.0
    assert poisson_tail(1e-9, 50) == 0.0
    with pytest.raises(WebProxyError):
        poisson_tail(10.0, 9)
