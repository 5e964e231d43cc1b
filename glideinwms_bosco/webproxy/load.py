# SPDX-License-Identifier: Apache-2.0
"""What pilots say of the web proxies they use, beside what was planned, and which limits that speaks for. Pure.

The rule: when at least 20 pilots of a proxy report, and a tenth of them have stepped back from it, or the half of those
that use it wait longer than its sites allow, it bears fewer pilots than it has. Proposed is three quarters of those
that report; the limits of its entries shrink alike. Look again when the pilots have become as few.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Optional

from glideinwms_bosco.errors import SiteError
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.site.web_proxies import DEFAULT_MAX_LATENCY_MS, normalised_url
from glideinwms_bosco.webproxy.asked import MAIN
from glideinwms_bosco.webproxy.budget import DISCOVERED, ProxyLoad

MIN_REPORTS = 20
STEPPED_BACK_SHARE = 0.1
KEPT_SHARE = 0.75

STATES = ("main", "backup", "direct", "none")
ENTRY, NAME = "GLIDEIN_Entry_Name", "Name"
PROXY, STATE = "GLIDEIN_PS_GWMS_BOSCO_WEB_PROXY", "GLIDEIN_PS_GWMS_BOSCO_WEB_PROXY_STATE"
LATENCY, ERRORS = "GLIDEIN_PS_GWMS_BOSCO_WEB_PROXY_LATENCY_MS", "GLIDEIN_PS_GWMS_BOSCO_WEB_PROXY_ERRORS"
FIRST_PROXY, FIRST_LATENCY = "GWMS_BOSCO_WEB_PROXY", "GWMS_BOSCO_WEB_PROXY_LATENCY_MS"
FIRST_SOURCE = "GWMS_BOSCO_WEB_PROXY_SOURCE"
"""What proxy_setup found; it counts until proxy_check has run for the first time."""
ATTRIBUTES = (NAME, ENTRY, PROXY, STATE, LATENCY, ERRORS, FIRST_PROXY, FIRST_LATENCY, FIRST_SOURCE)
"""Of a machine ad."""
CONSTRAINT = f'{FIRST_PROXY} =!= undefined && SlotType =!= "Dynamic"'

_NUMBER = re.compile(r"[0-9]{1,9}")
_SLOT = re.compile(r"\Aslot[0-9_]{1,16}@")
_WORD = re.compile(r"[A-Za-z0-9_.:@-]{1,256}")


@dataclass(frozen=True)
class Report:
    """One pilot: `proxy` is normalised, None without one; `latency_ms` and `errors` None where it says nothing."""

    entry: str
    proxy: Optional[str]
    state: str
    latency_ms: Optional[int] = None
    errors: Optional[int] = None


@dataclass(frozen=True)
class Measured:
    """What the pilots of one proxy report.

    Attributes:
        pilots: those of entries that name the proxy.
        using: of them, those that use it now.
        stepped_back: of those for which it is no backup, those that use another, go direct, or have nothing.
        latency_ms: half of those that use it have a shorter one; None: nobody says.
        errors: failed checks, of all that use it.
    """

    pilots: int
    using: int
    stepped_back: int
    latency_ms: Optional[int]
    errors: int


@dataclass(frozen=True)
class Proposal:
    """Fewer pilots: `clients` in all, and the limit of each entry; `reason` in words."""

    clients: int
    limits: Mapping[str, int]
    reason: str


@dataclass(frozen=True)
class State:
    """One proxy: planned, running (None: no schedd was asked), measured (None: no pool was asked), proposed."""

    load: ProxyLoad
    running: Optional[int] = None
    measured: Optional[Measured] = None
    proposal: Optional[Proposal] = None

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        measured, proposal = (None if part is None else asdict(part) for part in (self.measured, self.proposal))
        return {**self.load.as_json(), "running": self.running, "measured": measured, "proposal": proposal}


@dataclass
class Reports:
    """Reports of pilots, each once, and how many machine ads could not be read."""

    reports: list[Report] = field(default_factory=list)
    unread: int = 0


def read_reports(ads: Iterable[Mapping[str, Any]]) -> Reports:
    """Read machine ads; several slots of one pilot count once. Payload-made values that are none of ours are left."""
    found = Reports()
    seen: set[str] = set()
    for ad in ads:
        # slot1_2@glidein_1_2@host: what is behind the slot names the startd, and so the pilot.
        pilot = _SLOT.sub("", str(ad.get(NAME, "")))
        if pilot in seen:
            continue
        report = _report(ad)
        if report is None or not pilot:
            found.unread += 1
            continue
        seen.add(pilot)
        found.reports.append(report)
    return found


def _report(ad: Mapping[str, Any]) -> Optional[Report]:
    entry, checked = ad.get(ENTRY), PROXY in ad
    if not isinstance(entry, str) or not _WORD.fullmatch(entry):
        return None
    given = ad.get(PROXY if checked else FIRST_PROXY)
    source = ad.get(FIRST_SOURCE)
    # Where the choice is no first one, its source has the name of the state.
    state = ad.get(STATE) if checked else source if source in STATES else MAIN
    if state not in STATES or not isinstance(given, str):
        return None
    try:
        proxy = None if given in ("DIRECT", "none") else normalised_url(given)
    except SiteError:
        return None
    return Report(entry, proxy, state, _number(ad.get(LATENCY if checked else FIRST_LATENCY)), _number(ad.get(ERRORS)))


def _number(value: Any) -> Optional[int]:
    """A count as an integer or as its digits; anything else says nothing."""
    if type(value) is int and value >= 0:
        return value
    return int(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else None


def states(
    loads: Sequence[ProxyLoad],
    sites: Sequence[SiteDescription],
    running: Optional[Mapping[str, int]] = None,
    reports: Optional[Sequence[Report]] = None,
) -> tuple[State, ...]:
    """Put together what is planned, what runs and what was measured of each proxy.

    Args:
        loads: of all sites.
        sites: whose limits of latency count.
        running: entry -> pilots that run.
        reports: of all pilots.
    """
    latencies = {
        site.short_name: site.runtime.web_proxies.max_latency_ms
        for site in sites
        if site.runtime is not None and site.runtime.web_proxies is not None
    }
    found = []
    for load in loads:
        runs = None if running is None else sum(running.get(use.entry, 0) for use in load.uses)
        measured = None if reports is None else measure(load, reports)
        allowed = [latencies.get(use.site, DEFAULT_MAX_LATENCY_MS) for use in load.uses]
        proposal = None
        if measured is not None and load.url != DISCOVERED:
            proposal = propose(load, measured, min(allowed, default=DEFAULT_MAX_LATENCY_MS))
        found.append(State(load, runs, measured, proposal))
    return tuple(found)


def measure(load: ProxyLoad, reports: Iterable[Report]) -> Measured:
    """Add up what the pilots of a proxy's entries report."""
    entries = {use.entry for use in load.uses}
    main = {use.entry for use in load.uses if use.role == MAIN}
    own = [report for report in reports if report.entry in entries]
    using = [report for report in own if report.proxy == load.url or load.url == DISCOVERED]
    latencies = [report.latency_ms for report in using if report.latency_ms is not None]
    return Measured(
        pilots=len(own),
        using=len(using),
        stepped_back=sum(r.entry in main and r.state != MAIN and r.proxy != load.url for r in own),
        latency_ms=round(median(latencies)) if latencies else None,
        errors=sum(report.errors or 0 for report in using),
    )


def propose(load: ProxyLoad, measured: Measured, max_latency_ms: int) -> Optional[Proposal]:
    """Propose lower limits for the entries of a proxy that bears less than was planned; None: let it be.

    Args:
        load: what was planned.
        measured: what pilots report.
        max_latency_ms: the shortest that one of its sites allows.
    """
    busy = measured.using + measured.stepped_back
    if busy < MIN_REPORTS:
        return None
    share = measured.stepped_back / busy
    if share >= STEPPED_BACK_SHARE:
        reason = f"{share:.0%} of {busy} pilots have stepped back from it"
    elif measured.latency_ms is not None and measured.latency_ms > max_latency_ms:
        reason = f"half of {measured.using} pilots wait longer than {measured.latency_ms} ms ({max_latency_ms} allowed)"
    else:
        return None
    clients = max(1, int(KEPT_SHARE * min(busy, load.clients or busy)))
    # A proposal closes no entry.
    limits = {
        use.entry: max(1, use.clients * clients // load.clients) for use in load.uses if use.clients and load.clients
    }
    return Proposal(clients, limits, reason)
