# SPDX-License-Identifier: Apache-2.0
"""The budget of each web proxy over all entries of all sites that name it: sums, refusals, start windows. Pure.

Every proxy that a site names, backup or not, must bear all pilots of the site: they use the first that works, and when
the others fail they all come to the one that is left.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Optional

from glideinwms_bosco.errors import Problem
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.site.web_proxies import Capacity, WebProxies
from glideinwms_bosco.webproxy.capacity import MAX_SPREAD_S, SETUP_REQUESTS, most_pilots, spread_s, starts_per_s

BLOCK = "runtime.web_proxies"
MAIN, BACKUP = "main", "backup"
DISCOVERED = "discovered"
"""In place of a URL: whatever the pilots of a site find."""

Limits = Mapping[str, Optional[int]]
"""Entry -> the most pilots it may have; None or missing: not known."""


@dataclass(frozen=True)
class Use:
    """One entry that names a proxy. `clients`: the most pilots it may have; None: not known."""

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
        uses: every entry that names the proxy, by site.
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
    ordered = sorted(sites, key=lambda site: site.file)
    using = [(site, site.runtime.web_proxies) for site in ordered if site.runtime and site.runtime.web_proxies]
    loads = {load.url: load for load in _named(using, limits)}
    found = {site.file: _discovered(site, proxies, limits) for site, proxies in using if proxies.only_discovered}
    problems = [*_contradictions(using)]
    spreads: dict[str, int] = {}
    for site, proxies in using:
        named = [(where, loads[proxy.url]) for where, proxy in proxies.named()]
        if site.file in found:
            named.append(("max_jobs", found[site.file]))
        for where, load in named:
            problems += _too_much(site, f"{BLOCK}.{where}", load)
        problems += _unknown(site, [load for _, load in named])
        # 0 for one that is refused: nothing is rendered then.
        spreads[site.file] = max((load.spread_s or 0 for _, load in named), default=0)
    return Budget((*loads.values(), *found.values()), tuple(dict.fromkeys(problems)), spreads)


def _named(using: Sequence[tuple[SiteDescription, WebProxies]], limits: Limits) -> Iterator[ProxyLoad]:
    capacities: dict[str, Capacity] = {}
    uses: dict[str, list[Use]] = {}
    for site, proxies in using:
        for where, proxy in proxies.named():
            capacities.setdefault(proxy.url, proxy.capacity)
            uses.setdefault(proxy.url, []).extend(_uses(site, BACKUP if where.startswith(BACKUP) else MAIN, limits))
    for url, capacity in capacities.items():
        yield ProxyLoad(url, capacity, tuple(uses[url]))


def _discovered(site: SiteDescription, proxies: WebProxies, limits: Limits) -> ProxyLoad:
    return ProxyLoad(DISCOVERED, Capacity(clients=proxies.max_jobs), _uses(site, DISCOVERED, limits))


def _uses(site: SiteDescription, role: str, limits: Limits) -> tuple[Use, ...]:
    if not site.enabled:
        return ()
    return tuple(
        Use(site.short_name, entry.name, role, limits.get(entry.name)) for entry in site.entries if entry.enabled
    )


def _contradictions(using: Sequence[tuple[SiteDescription, WebProxies]]) -> Iterator[Problem]:
    """Sites that state different capacities of one proxy: each is told where the other stands."""
    stated: dict[str, list[tuple[SiteDescription, str, Capacity]]] = {}
    for site, proxies in using:
        for where, proxy in proxies.named():
            stated.setdefault(proxy.url, []).append((site, f"{BLOCK}.{where}.capacity", proxy.capacity))
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


def _unknown(site: SiteDescription, loads: Sequence[ProxyLoad]) -> Iterator[Problem]:
    unknown = {(use.site, use.entry) for load in loads for use in load.uses if use.clients is None}
    for name, entry in sorted(unknown):
        message = f"the limit of entry {entry} of site {name} is not known, so its pilots are not counted"
        hint = "is the entry in the factory's configuration?"
        yield Problem(site.file, site.line(BLOCK), BLOCK, message, hint, "warning")
