# SPDX-License-Identifier: Apache-2.0
"""The budget of each web proxy over all entries of all sites that name it: sums, refusals, start windows. Pure.

Every proxy that a site names, backup or not, must bear all pilots of the site: they use the first that works, and when
the others fail they all come to the one that is left. A site that names a proxy in another field (a fixed proxy of
CVMFS or Frontier, the one behind a tunnel) has a part in it as soon as any site file states what it bears.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Optional

from glideinwms_bosco.errors import Problem
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.site.web_proxies import Capacity
from glideinwms_bosco.webproxy.asked import BLOCK, Asked, asked_proxies
from glideinwms_bosco.webproxy.capacity import MAX_SPREAD_S, SETUP_REQUESTS, most_pilots, spread_s, starts_per_s

DISCOVERED = "discovered"
"""In place of a URL: whatever the pilots of a site find."""

Limits = Mapping[str, Optional[int]]
"""Entry -> the most pilots it may have; None or missing: not known."""
_Using = tuple[SiteDescription, Sequence[Asked]]


@dataclass(frozen=True)
class Use:
    """One entry of a site that names a proxy. `clients`: the most pilots it may have; None: not known."""

    site: str
    entry: str
    role: str
    clients: Optional[int]


@dataclass(frozen=True)
class ProxyLoad:
    """What all entries together may ask of one proxy.

    Attributes:
        url: normalised; `discovered` for what the pilots of one site find.
        capacity: as the first site file states it.
        uses: every entry whose pilots or payloads may ask it, by site.
    """

    url: str
    capacity: Capacity
    uses: tuple[Use, ...]

    @property
    def clients(self) -> int:
        """The sum of the limits that are known."""
        return sum(use.clients or 0 for use in self.uses)

    @functools.cached_property
    def most_clients(self) -> int:
        """How many pilots it bears."""
        return self.capacity.clients or most_pilots(starts_per_s(self.capacity))

    @property
    def excess(self) -> int:
        """How many pilots too many there may be."""
        return max(0, self.clients - self.most_clients)

    @functools.cached_property
    def spread_s(self) -> Optional[int]:
        """Window in which its pilots must start (s); None: none within the limit is long enough."""
        return spread_s(self.clients, starts_per_s(self.capacity))

    def by_site(self) -> Mapping[str, tuple[Use, ...]]:
        """Site -> its entries."""
        found: dict[str, tuple[Use, ...]] = {}
        for use in self.uses:
            found[use.site] = (*found.get(use.site, ()), use)
        return found

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {
            "url": self.url,
            "capacity": {"clients": self.capacity.clients, "requests_per_s": self.capacity.requests_per_s},
            "most_clients": self.most_clients,
            "clients": self.clients,
            "excess": self.excess,
            "spread_s": self.spread_s,
            "uses": [asdict(use) for use in self.uses],
        }


@dataclass(frozen=True)
class Budget:
    """The loads by URL, what stands against them, and the start window (s) of each site by its file."""

    loads: tuple[ProxyLoad, ...] = ()
    problems: tuple[Problem, ...] = ()
    spreads: Mapping[str, int] = field(default_factory=dict)

    def spread_of(self, site: SiteDescription) -> int:
        """Window in which the site's pilots start (s)."""
        return self.spreads.get(site.file, 0)

    def loads_of(self, names: Iterable[str]) -> tuple[ProxyLoad, ...]:
        """The loads in which one of these sites (short names) has a part."""
        wanted = set(names)
        return tuple(load for load in self.loads if any(use.site in wanted for use in load.uses))


def budget(sites: Sequence[SiteDescription], limits: Limits) -> Budget:
    """Add up what the entries of all sites may ask of each proxy.

    Args:
        sites: all of the factory; those that are disabled, and disabled entries, ask for nothing.
        limits: most pilots of each entry.

    Returns:
        The loads and, for every site with a part in one that is too high, a problem at the line of the proxy.
    """
    using = [(site, asked_proxies(site)) for site in sorted(sites, key=lambda site: site.file)]
    loads = {load.url: load for load in _named(using, limits)}
    discovered: list[ProxyLoad] = []
    problems = [*_contradictions(using)]
    spreads: dict[str, int] = {}
    for site, asked in using:
        shares = [(one.field, loads[one.url]) for one in asked if one.url in loads]
        cap = site.runtime.web_proxies.discovery_cap if site.runtime and site.runtime.web_proxies else None
        if cap is not None:
            found = ProxyLoad(DISCOVERED, Capacity(clients=cap), _uses(site, DISCOVERED, limits))
            discovered.append(found)
            shares.append((f"{BLOCK}.max_jobs", found))
        for where, load in shares:
            problems += _too_much(site, where, load)
        problems += _unknown(site, shares)
        problems += _unstated(site, [one for one in asked if one.url not in loads])
        # 0 for one that is refused: nothing is rendered then.
        spreads[site.file] = max((load.spread_s or 0 for _, load in shares), default=0)
    return Budget((*loads.values(), *discovered), tuple(dict.fromkeys(problems)), spreads)


def _named(using: Sequence[_Using], limits: Limits) -> Iterator[ProxyLoad]:
    """The loads of all proxies whose capacity some site states."""
    capacities: dict[str, Capacity] = {}
    uses: dict[str, list[Use]] = {}
    for site, asked in using:
        for one in asked:
            if one.capacity is not None:
                capacities.setdefault(one.url, one.capacity)
            uses.setdefault(one.url, []).extend(_uses(site, one.role, limits))
    for url, capacity in capacities.items():
        yield ProxyLoad(url, capacity, tuple(uses[url]))


def _uses(site: SiteDescription, role: str, limits: Limits) -> tuple[Use, ...]:
    if not site.enabled:
        return ()
    return tuple(
        Use(site.short_name, entry.name, role, limits.get(entry.name)) for entry in site.entries if entry.enabled
    )


def _contradictions(using: Sequence[_Using]) -> Iterator[Problem]:
    """Sites that state different capacities of one proxy: each is told where the other stands."""
    stated: dict[str, list[tuple[SiteDescription, str, Capacity]]] = {}
    for site, asked in using:
        for one in asked:
            if one.capacity is not None:
                stated.setdefault(one.url, []).append((site, f"{one.field}.capacity", one.capacity))
    for url, places in stated.items():
        for site, where, capacity in places:
            for other, other_where, other_capacity in places:
                if other_capacity != capacity and other.file != site.file:
                    place = f"{other.file}:{other.line(other_where)}"
                    message = f"{url} bears {capacity} here and {other_capacity} in {place}"
                    yield Problem(site.file, site.line(where), where, message, "state the same in both files")
                    break


def _too_much(site: SiteDescription, where: str, load: ProxyLoad) -> Iterator[Problem]:
    line = site.line(where)
    parts = "; ".join(f"{name}: {_sum(uses)}" for name, uses in load.by_site().items())
    name = "what pilots discover" if load.url == DISCOVERED else load.url
    if load.capacity.clients is not None and load.excess:
        message = f"{name} bears {load.capacity.clients} pilots, and the limits of its entries allow {load.clients}"
        hint = f"take {load.excess} from limits.per_entry.glideins of these ({parts})"
        yield Problem(site.file, line, where, message, hint)
    elif load.spread_s is None:
        most = load.most_clients
        if most == 0:
            message = f"{name} bears {load.capacity}, and one pilot's set-up alone makes {SETUP_REQUESTS}"
            yield Problem(site.file, line, where, message, "it is no proxy for pilots; remove it")
            return
        message = f"{load.clients} pilots of {name} would have to start over more than {MAX_SPREAD_S} s"
        hint = f"limits.per_entry.glideins of {most} in all would do ({parts})"
        yield Problem(site.file, line, where, message, hint)


def _sum(uses: Sequence[Use]) -> str:
    entries = " + ".join(f"{use.entry} {'?' if use.clients is None else use.clients}" for use in uses)
    return f"{sum(use.clients or 0 for use in uses)} = {entries}" if len(uses) > 1 else entries


def _unknown(site: SiteDescription, shares: Sequence[tuple[str, ProxyLoad]]) -> Iterator[Problem]:
    unknown: dict[tuple[str, str], str] = {}
    for where, load in shares:
        for use in load.uses:
            if use.clients is None:
                unknown.setdefault((use.site, use.entry), where)
    for (name, entry), where in sorted(unknown.items()):
        message = f"the limit of entry {entry} of site {name} is not known, so its pilots are not counted"
        hint = "is the entry in the factory's configuration?"
        yield Problem(site.file, site.line(where), where, message, hint, "warning")


def _unstated(site: SiteDescription, asked: Sequence[Asked]) -> Iterator[Problem]:
    for one in asked:
        if one.remedy and site.enabled:
            message = f"no site file states what {one.url} bears, so the pilots that ask it are not counted"
            yield Problem(site.file, site.line(one.field), one.field, message, one.remedy, "warning")
