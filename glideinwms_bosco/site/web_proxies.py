# SPDX-License-Identifier: Apache-2.0
"""The `runtime.web_proxies` block of a site file: which web proxies pilots ask, and what each of them bears."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from glideinwms_bosco.errors import SiteError

DEFAULT_MAX_JOBS = 1000
"""Jobs of a site that lives on proxies nobody has promised it; the rule of thumb for one squid."""
DEFAULT_MAX_LATENCY_MS = 1000
DEFAULT_TEST_CVMFS = "http://cvmfs-stratum-one.cern.ch:8000/cvmfs/cms.cern.ch/.cvmfspublished"
# Source: the list CVMFS itself asks, and the WLCG proposal for jobs (HttpProxyDiscoveryTaskForce).
DEFAULT_WPAD_URLS = (
    "http://grid-wpad/wpad.dat",
    "http://wpad/wpad.dat",
    "http://wlcg-wpad.cern.ch/wpad.dat",
    "http://wlcg-wpad.fnal.gov/wpad.dat",
)
NOT_TESTED = "none"
"""In place of a test's URL."""
MAX_PORT = 65535

_URL = re.compile(
    r"http://(?:([A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)\.?|\[([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)\]):([0-9]{1,5})/?"
)


def normalised_url(url: str) -> str:
    """One spelling for one proxy: `http://HOST:PORT`, the host in lower case, without a last dot or slash.

    A numeric IPv6 address is in brackets, with as few digits as it can have.

    Raises:
        SiteError: it is no URL of a proxy.
    """
    found = _URL.fullmatch(url)
    port = int(found[3]) if found else 0
    if found is None or not 1 <= port <= MAX_PORT:
        raise SiteError(f"{url[:80]!r} is no URL of a web proxy", "http://HOST:PORT")
    if found[1] is not None:
        return f"http://{found[1].lower()}:{port}"
    try:
        return f"http://[{ipaddress.IPv6Address(found[2]).compressed}]:{port}"
    except ValueError:
        message = f"{url[:80]!r} has no IPv6 address in its brackets"
        raise SiteError(message, "such as http://[2001:db8::1]:3128") from None


@dataclass(frozen=True)
class Capacity:
    """What a proxy bears: `clients` that use it at the same time, or `requests_per_s`; exactly one of the two."""

    clients: Optional[int] = None
    requests_per_s: Optional[int] = None

    def __post_init__(self) -> None:
        if (self.clients is None) == (self.requests_per_s is None):
            raise SiteError("a capacity is either clients or requests_per_s", "say one of the two")
        if (self.clients or self.requests_per_s or 0) < 1:
            raise SiteError("a capacity is at least 1", "remove a proxy that must not be used")

    def __str__(self) -> str:
        return f"{self.clients} clients" if self.requests_per_s is None else f"{self.requests_per_s} requests/s"


@dataclass(frozen=True)
class WebProxy:
    """One proxy; `url` is normalised."""

    url: str
    capacity: Capacity

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", normalised_url(self.url))


@dataclass(frozen=True)
class WebProxies:
    """Which proxies pilots ask, and in which order.

    Attributes:
        proxies: the site's own, the best first.
        backup: those near by, asked when no other passes its tests.
        discover: what else a node is searched for: environment, pac, wpad.
        pac_urls, wpad_urls: where PAC files are fetched, for `discover`.
        max_jobs: pilots of a site that may use what is discovered; None: not stated.
        direct: whether pilots may go to the servers themselves in the end.
        test_cvmfs, test_frontier: objects that a proxy must deliver; None: not tested.
        max_latency_ms: an answer that takes longer counts as a failure.
    """

    proxies: tuple[WebProxy, ...] = ()
    backup: tuple[WebProxy, ...] = ()
    discover: tuple[str, ...] = ()
    pac_urls: tuple[str, ...] = ()
    wpad_urls: tuple[str, ...] = DEFAULT_WPAD_URLS
    max_jobs: Optional[int] = None
    direct: bool = False
    test_cvmfs: Optional[str] = DEFAULT_TEST_CVMFS
    test_frontier: Optional[str] = None
    max_latency_ms: int = DEFAULT_MAX_LATENCY_MS

    @property
    def discovery_cap(self) -> Optional[int]:
        """Most pilots of a site that looks for proxies: as stated, or DEFAULT_MAX_JOBS where it has no `proxies`."""
        if not self.discover:
            return None
        return DEFAULT_MAX_JOBS if self.max_jobs is None and not self.proxies else self.max_jobs

    def named(self) -> tuple[tuple[str, WebProxy], ...]:
        """Each proxy that is named, with its field below `web_proxies`."""
        lists = (("proxies", self.proxies), ("backup", self.backup))
        return tuple((f"{name}[{i}]", proxy) for name, found in lists for i, proxy in enumerate(found))


def web_proxies_of(data: Mapping[str, Any], frontier_servers: Sequence[str] = ()) -> WebProxies:
    """Build it from a block that the schema has accepted.

    Args:
        data: the block.
        frontier_servers: of the site's SITECONF; the first is what proxies are tested with unless the block names one.

    Raises:
        SiteError: a value must not reach a node.
    """
    tests = data.get("test", {})
    server = frontier_servers[0] if frontier_servers else None
    plain: dict[str, Any] = {name: data[name] for name in ("max_jobs", "direct", "max_latency_ms") if name in data}
    lists: dict[str, Any] = {name: tuple(data[name]) for name in ("discover", "pac_urls", "wpad_urls") if name in data}
    return WebProxies(
        proxies=_proxies(data.get("proxies", ())),
        backup=_proxies(data.get("backup", ())),
        test_cvmfs=_tested(tests.get("cvmfs", DEFAULT_TEST_CVMFS)),
        test_frontier=_tested(tests.get("frontier", server)),
        **lists,
        **plain,
    )


def _proxies(items: Sequence[Mapping[str, Any]]) -> tuple[WebProxy, ...]:
    return tuple(WebProxy(item["url"], Capacity(**item["capacity"])) for item in items)


def _tested(url: Optional[str]) -> Optional[str]:
    return None if url == NOT_TESTED else url
