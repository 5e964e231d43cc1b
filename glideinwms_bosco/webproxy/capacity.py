# SPDX-License-Identifier: Apache-2.0
"""How far apart pilots must start so that a web proxy bears them: the spread window. Pure.

Model: N pilots start at the same moment, as after a break of the batch system. Each waits a random time, uniform in
[0, W) seconds, before it asks any proxy, and then makes all requests of its set-up within one second. That is the worst
case: a set-up takes longer. Seconds are those of the proxy's clock.
"""

from __future__ import annotations

import math
from typing import Optional

from glideinwms_bosco.errors import WebProxyError
from glideinwms_bosco.site.web_proxies import Capacity

SETUP_REQUESTS = 12
"""What the set-up of one pilot asks a proxy for: the tests of proxy_setup, and CVMFS until its repositories are there.

Source: 2 by proxy_setup, counted in a squid's access log by tests/lab/test_web_proxies.py; 10 by the CVMFS client are
an estimate: manifest, whitelist, certificate, root catalogue and the servers' order, for two repositories.
"""
MAX_SPREAD_S = 600
"""A pilot that waits longer wastes more than it saves (s)."""
OVERLOAD_PROBABILITY = 0.001
"""How often, of many such starts at once, the busiest second may exceed what the proxy bears."""
CLIENTS_PER_START = 20
MIN_STARTS_PER_S = 10
"""For a capacity in clients: a proxy bears the set-up of every 20th of its clients, or of 10, in the same second.

Running pilots ask in bursts too, so a proxy that was sized for C clients has room for some of them at the same time.
"""


def starts_per_s(capacity: Capacity) -> int:
    """Set-ups of pilots that a proxy bears in one second; 0: not even one."""
    if capacity.requests_per_s is not None:
        return capacity.requests_per_s // SETUP_REQUESTS
    return max(MIN_STARTS_PER_S, (capacity.clients or 0) // CLIENTS_PER_START)


def spread_s(pilots: int, starts: int, limit_s: int = MAX_SPREAD_S) -> Optional[int]:
    """The shortest window in which pilots that start at once exceed a proxy's rate in no second.

    Args:
        pilots: how many start at the same moment.
        starts: how many set-ups the proxy bears in one second.
        limit_s: the longest window that is of use (s).

    Returns:
        Seconds; 0 when the proxy bears all of them in one second. None: the limit is too short.
    """
    if pilots <= starts:
        return 0
    if not _fits(pilots, limit_s, starts):
        return None
    # A longer window never has a worse busiest second, so the shortest can be found by halving.
    too_short, enough = 0, limit_s
    while enough - too_short > 1:
        middle = (too_short + enough) // 2
        if _fits(pilots, middle, starts):
            enough = middle
        else:
            too_short = middle
    return enough


def most_pilots(starts: int, limit_s: int = MAX_SPREAD_S) -> int:
    """The most pilots that may start at once and still get a window within the limit."""
    fitting, too_many = starts, max(2 * starts, 2)
    while spread_s(too_many, starts, limit_s) is not None:
        fitting, too_many = too_many, 2 * too_many
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        if spread_s(middle, starts, limit_s) is None:
            too_many = middle
        else:
            fitting = middle
    return fitting


def poisson_tail(mean: float, above: int) -> float:
    """Probability that a Poisson variable of this mean is larger than `above`.

    Raises:
        WebProxyError: `above` is less than the mean, where the sum would need too many terms.
    """
    if above < mean:
        raise WebProxyError(f"the tail beyond {above} of a mean of {mean:g} is no tail", "report this")
    if mean <= 0:
        return 0.0
    count = above + 1
    term = math.exp(count * math.log(mean) - mean - math.lgamma(count + 1))
    total = 0.0
    # Beyond the mean each term is smaller than the one before, at least by mean / count.
    while term > total * 1e-12 and term > 0:
        total += term
        count += 1
        term *= mean / count
    return total


def _fits(pilots: int, window_s: int, starts: int) -> bool:
    """Whether no second has more than `starts` starts, but for OVERLOAD_PROBABILITY.

    The starts of one second are binomial (N, 1/W). Beyond its mean the tail of that is below the tail of the Poisson
    distribution of the same mean, and the sum over W seconds is no less than the probability for the busiest of them.
    Source: Anderson and Samuels, Some inequalities among binomial and Poisson probabilities, 1967.
    """
    mean = pilots / window_s
    return mean <= starts and window_s * poisson_tail(mean, starts) <= OVERLOAD_PROBABILITY
