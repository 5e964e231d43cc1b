# SPDX-License-Identifier: Apache-2.0
"""What lab tests read out of a squid's access log."""

from __future__ import annotations

import pytest

from tests.lab.squid import Request, peak_rate, request_of


def _asked(*times: float) -> list[Request]:
    return [Request(at, 1, "TCP_MEM_HIT", 200, "GET", "http://example.org/") for at in times]


def test_line_of_the_log_is_read() -> None:
    line = "1795193820.075 2002 TCP_MEM_HIT 200 GET http://example.org/a b"
    assert request_of(line) == Request(1795193820.075, 2002, "TCP_MEM_HIT", 200, "GET", "http://example.org/a b")


@pytest.mark.parametrize(
    ("times", "window_s", "rate"),
    [
        ((), 1.0, 0.0),
        ((5.0,), 1.0, 1.0),
        ((1.0, 1.5, 2.0), 1.0, 3.0),
        ((1.0, 1.5, 2.25), 1.0, 2.0),
        ((2.25, 1.5, 1.0), 1.0, 2.0),
        ((1.0, 1.25, 9.0, 9.25, 9.5), 0.5, 6.0),
    ],
)
def test_busiest_window_counts(times: tuple[float, ...], window_s: float, rate: float) -> None:
    assert peak_rate(_asked(*times), window_s) == rate
