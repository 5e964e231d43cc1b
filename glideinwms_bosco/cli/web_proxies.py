# SPDX-License-Identifier: Apache-2.0
"""Web proxies over all sites of the host: budget, load, and the table of both."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.selection import site_files
from glideinwms_bosco.cli.settings import Settings
from glideinwms_bosco.cli.surroundings import proxy_budget
from glideinwms_bosco.errors import ScheddError, SiteFileError
from glideinwms_bosco.remote.pool import query_machines
from glideinwms_bosco.site.load import load_site
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.webproxy.asked import MAIN
from glideinwms_bosco.webproxy.budget import ProxyLoad, Use
from glideinwms_bosco.webproxy.load import ATTRIBUTES, CONSTRAINT, Measured, Report, State, read_reports, states

_COLUMNS = ("WEB PROXY", "BEARS", "LIMITS", "START WITHIN")
_LIVE_COLUMNS = ("RUNNING", "REPORTING", "USING IT", "STEPPED BACK", "LATENCY", "ERRORS")


@dataclass(frozen=True)
class Overview:
    """All proxies of the host, and what could not be asked or read, in words."""

    states: tuple[State, ...]
    notes: tuple[str, ...] = ()

    def of(self, site: str) -> tuple[State, ...]:
        """Those that a site's entries use."""
        return tuple(state for state in self.states if any(use.site == site for use in state.load.uses))

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {"web_proxies": [state.as_json() for state in self.states], "notes": list(self.notes)}


def readable_sites(settings: Settings, named: Iterable[Path] = ()) -> tuple[list[SiteDescription], tuple[str, ...]]:
    """The sites of the host and the named ones, as far as their files can be read, and why others cannot."""
    sites, notes = [], []
    for path in {os.path.realpath(path): path for path in (*site_files(settings), *named)}.values():
        try:
            sites.append(load_site(path)[0])
        except SiteFileError as err:
            # A file that is refused may have warnings before its first error.
            worst = next((problem for problem in err.problems if problem.severity == "error"), err.problems[0])
            notes.append(f"not counted: {worst}")
    return sites, tuple(notes)


def overview(settings: Settings, running: Optional[Mapping[str, int]], *, measured: bool = True) -> Overview:
    """Plan, run and measure every proxy of the host.

    Args:
        settings: of the host; without a `pool` nothing is measured.
        running: entry -> pilots that run; None: not known.
        measured: whether pools are asked.
    """
    sites, notes = readable_sites(settings)
    loads = proxy_budget(sites, settings).loads
    if not loads or not settings.pool or not measured:
        return Overview(states(loads, sites, running), notes if loads else ())
    reports, problems = _measured(settings.pool)
    return Overview(states(loads, sites, running, reports), (*notes, *problems))


def _measured(pools: Sequence[str]) -> tuple[Optional[list[Report]], list[str]]:
    """Reports of all pools that answer; None when none does."""
    found: list[Report] = []
    problems: list[str] = []
    answered = False
    for pool in pools:
        try:
            reports = read_reports(query_machines(pool, CONSTRAINT, ATTRIBUTES))
        except ScheddError as err:
            problems.append(err.message)
            continue
        answered = True
        found += reports.reports
        if reports.unread:
            problems.append(f"pool {pool}: {output.counted(reports.unread, 'machine ad')} could not be read")
    return (found if answered else None), problems


def print_loads(loads: Sequence[ProxyLoad]) -> None:
    """Print what was planned: each proxy, below it its sites and entries."""
    _print(_aligned([_COLUMNS, *(row for load in loads for row in (_planned(load), *_users(load)))]))


def print_states(found: Sequence[State], notes: Sequence[str] = ()) -> None:
    """Print what is planned, running and measured of each proxy, then proposals and notes."""
    _print(state_lines(found, notes))


def state_lines(found: Sequence[State], notes: Sequence[str] = ()) -> tuple[str, ...]:
    """The same as lines."""
    rows = [
        row
        for state in found
        for row in ((*_planned(state.load), *_live(state.running, state.measured)), *_users(state.load))
    ]
    proposals = [
        f"{state.load.url}: {state.proposal.reason}; proposed: {state.proposal.clients} pilots "
        f"({', '.join(f'{entry} {limit}' for entry, limit in state.proposal.limits.items())})"
        for state in found
        if state.proposal is not None
    ]
    table = _aligned([(*_COLUMNS, *_LIVE_COLUMNS), *rows]) if found else []
    return (*table, *proposals, *(f"note: {note}" for note in notes))


def _planned(load: ProxyLoad) -> tuple[str, ...]:
    spread = "-" if load.spread_s is None else f"{load.spread_s} s"
    return load.url, str(load.capacity), str(load.clients), "TOO MANY" if load.excess else spread


def _live(running: Optional[int], measured: Optional[Measured]) -> tuple[str, ...]:
    runs = "?" if running is None else str(running)
    if measured is None:
        return runs, "?", "?", "?", "?", "?"
    latency = "-" if measured.latency_ms is None else f"{measured.latency_ms} ms"
    counts = (str(number) for number in (measured.pilots, measured.using, measured.stepped_back))
    return (runs, *counts, latency, str(measured.errors))


def _users(load: ProxyLoad) -> Iterable[tuple[str, ...]]:
    for site, uses in load.by_site().items():
        yield f"  {site}", "", _sum(uses)
        for use in uses:
            role = "" if use.role == MAIN else f" ({use.role})"
            yield f"    {use.entry}{role}", "", _sum((use,))


def _sum(uses: Sequence[Use]) -> str:
    return "?" if any(use.clients is None for use in uses) else str(sum(use.clients or 0 for use in uses))


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(rows[0]))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths)).rstrip() for row in rows]


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(output.printable(line))
