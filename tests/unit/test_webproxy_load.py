# SPDX-License-Identifier: Apache-2.0
"""What pilots report of web proxies: strictly read, added up, and turned into proposals."""

from __future__ import annotations

from typing import Any

import pytest

from glideinwms_bosco.site.web_proxies import Capacity
from glideinwms_bosco.webproxy.budget import DISCOVERED, ProxyLoad, Use
from glideinwms_bosco.webproxy.load import (
    ENTRY,
    ERRORS,
    FIRST_LATENCY,
    FIRST_PROXY,
    FIRST_SOURCE,
    LATENCY,
    NAME,
    PROXY,
    STATE,
    Measured,
    Report,
    measure,
    propose,
    read_reports,
    states,
)

SQUID, NEAR = "http://squid:3128", "http://near:3128"
LOAD = ProxyLoad(SQUID, Capacity(clients=200), (Use("a", "A", "main", 150), Use("b", "B", "backup", 50)))


def ad(name: str = "slot1@glidein_1_2@node", entry: Any = "A", **more: Any) -> dict[str, Any]:
    return {NAME: name, ENTRY: entry, FIRST_PROXY: SQUID, FIRST_LATENCY: 12, **more}


def test_check_of_a_pilot_counts_more_than_its_set_up() -> None:
    later = {PROXY: NEAR, STATE: "backup", LATENCY: "250", ERRORS: 3}
    found = read_reports([ad(), ad("glidein_3_4@node", **later)])
    assert found.reports == [Report("A", SQUID, "main", 12, None), Report("A", NEAR, "backup", 250, 3)]
    assert found.unread == 0


def test_slots_of_one_pilot_count_once() -> None:
    names = ("slot1@glidein_1_2@node", "slot2_1@glidein_1_2@node", "slot1@glidein_9_9@node", "glidein_8_8@node")
    assert len(read_reports(ad(name) for name in names).reports) == 3


@pytest.mark.parametrize("value", ["DIRECT", "none"])
def test_pilot_without_a_proxy_has_none(value: str) -> None:
    (report,) = read_reports([ad(**{PROXY: value, STATE: "direct" if value == "DIRECT" else "none"})]).reports
    assert report.proxy is None


@pytest.mark.parametrize(
    ("source", "state"), [("site", "main"), ("backup", "backup"), ("direct", "direct"), (7, "main")]
)
def test_before_the_first_check_the_state_follows_from_the_source(source: Any, state: str) -> None:
    (report,) = read_reports([ad(**{FIRST_PROXY: NEAR, FIRST_SOURCE: source})]).reports
    assert (report.proxy, report.state) == (NEAR, state)


def test_proxy_with_a_numeric_address_is_read() -> None:
    (report,) = read_reports([ad(**{PROXY: "http://[2001:DB8::1]:3128", STATE: "main"})]).reports
    assert report.proxy == "http://[2001:db8::1]:3128"


@pytest.mark.parametrize(
    "change",
    [
        {ENTRY: None},
        {ENTRY: "a b"},
        {ENTRY: 5},
        {FIRST_PROXY: 7},
        {FIRST_PROXY: "squid"},
        {FIRST_PROXY: "http://squid:3128/\x1b[2J"},
        {PROXY: SQUID},
        {PROXY: SQUID, STATE: "good"},
        {PROXY: SQUID, STATE: 1},
        {PROXY: SQUID, STATE: ["main"]},
        {NAME: ""},
    ],
)
def test_ad_that_says_something_else_is_counted_as_unread(change: dict[str, Any]) -> None:
    found = read_reports([{**ad(), **change}])
    assert (found.reports, found.unread) == ([], 1)


@pytest.mark.parametrize("value", [-1, 1.5, True, "+3", "1_0", " 3", "3 ms", "9" * 10, None, [1]])
def test_number_of_another_form_says_nothing(value: Any) -> None:
    (report,) = read_reports([ad(**{FIRST_LATENCY: value})]).reports
    assert report.latency_ms is None


def reports(using: int, back: int, latency_ms: int = 20) -> list[Report]:
    return [Report("A", SQUID, "main", latency_ms, 1)] * using + [Report("A", NEAR, "backup", 5)] * back


def test_reports_are_added_up_by_entries() -> None:
    others = [Report("B", NEAR, "main", 9), Report("B", SQUID, "backup", 40, 2), Report("X", SQUID, "main", 9999, 9)]
    assert measure(LOAD, reports(3, 2) + others) == Measured(pilots=7, using=4, stepped_back=2, latency_ms=20, errors=5)


def test_pilots_on_the_second_of_their_site_s_proxies_have_not_stepped_back_from_it() -> None:
    uses = (Use("a", "A", "main", 150),)
    first, second = (measure(ProxyLoad(url, Capacity(clients=200), uses), reports(0, 4)) for url in (SQUID, NEAR))
    assert (first.using, first.stepped_back) == (0, 4)
    assert (second.using, second.stepped_back) == (4, 0)


def test_pilots_that_use_their_own_proxy_are_no_load_of_their_backup() -> None:
    load = ProxyLoad(NEAR, Capacity(clients=10), (Use("a", "A", "backup", 10),))
    found = measure(load, reports(30, 0))
    assert (found.using, found.stepped_back) == (0, 0)
    assert propose(load, found, 10) is None


@pytest.mark.parametrize(
    ("using", "back", "latency_ms", "clients"),
    [
        (100, 0, 1000, None),
        (100, 0, 1001, 75),
        (91, 9, 20, None),
        (90, 10, 20, 75),
        (0, 100, 20, 75),
        (0, 19, 20, None),
        (0, 20, 20, 15),
        (300, 100, 20, 150),
    ],
)
def test_proposal_is_three_quarters_of_those_that_were_too_many(
    using: int, back: int, latency_ms: int, clients: int
) -> None:
    found = propose(LOAD, measure(LOAD, reports(using, back, latency_ms)), 1000)
    assert (found.clients if found else None) == clients
    if found:
        assert sum(found.limits.values()) <= found.clients
        assert found.limits["A"] == 150 * clients // 200


def test_proposal_closes_no_entry() -> None:
    load = ProxyLoad(SQUID, Capacity(clients=2000), (Use("a", "A", "main", 1999), Use("b", "B", "main", 1)))
    found = propose(load, measure(load, reports(0, 20)), 1000)
    assert found is not None
    assert found.limits == {"A": 14, "B": 1}


def test_state_says_what_it_does_not_know() -> None:
    (state,) = states([LOAD], [])
    assert (state.running, state.measured, state.proposal) == (None, None, None)
    (state,) = states([LOAD], [], {"A": 7, "B": 1, "X": 5}, [])
    assert state.running == 8
    assert state.measured == Measured(0, 0, 0, None, 0)
    assert state.as_json()["uses"][0] == {"site": "a", "entry": "A", "role": "main", "clients": 150}


def test_whatever_is_discovered_is_measured_without_a_proposal() -> None:
    load = ProxyLoad(DISCOVERED, Capacity(clients=100), (Use("a", "A", DISCOVERED, 100),))
    (state,) = states([load], [], None, reports(0, 50))
    assert state.measured is not None
    assert state.measured.using == 50
    assert state.proposal is None
