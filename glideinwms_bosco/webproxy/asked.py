# SPDX-License-Identifier: Apache-2.0
"""Which web proxies a site file has its pilots and payloads ask, in whatever field it names them. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.errors import SiteError
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.site.network import HTTP_CONNECT, WEB_PROXY_EGRESS, Network, is_numeric
from glideinwms_bosco.site.runtime import Runtime
from glideinwms_bosco.site.web_proxies import Capacity, normalised_url

BLOCK = "runtime.web_proxies"
MAIN, BACKUP = "main", "backup"
CVMFS, FRONTIER, TUNNEL = "cvmfs.proxy", "frontier.proxies", "network.web_proxy"
"""Roles of proxies that are named outside the block: what asks them there."""

# CVMFS_HTTP_PROXY: groups of hosts.
_SEPARATORS = re.compile(r"[;|]")


@dataclass(frozen=True)
class Asked:
    """One proxy of a site.

    Attributes:
        field: where the site file names it.
        url: normalised.
        role: main or backup, or what asks it.
        capacity: None where the field has no place for one.
        remedy: what to write when nobody states its capacity; empty: another check has said so.
    """

    field: str
    url: str
    role: str
    capacity: Optional[Capacity] = None
    remedy: str = ""


def asked_proxies(site: SiteDescription) -> tuple[Asked, ...]:
    """Every proxy that a site names, each once: where its capacity is stated, if the site states it.

    A fixed name without a port, or by https, is none: no capacity can be stated for it. Nor is one that is another
    proxy elsewhere, see `_url`.
    """
    found: dict[str, Asked] = {}
    for asked in _all(site):
        found.setdefault(asked.url, asked)
    return tuple(found.values())


def _all(site: SiteDescription) -> Iterator[Asked]:
    runtime = site.runtime
    if runtime is not None and runtime.web_proxies is not None:
        for where, proxy in runtime.web_proxies.named():
            role = BACKUP if where.startswith(BACKUP) else MAIN
            yield Asked(f"{BLOCK}.{where}", proxy.url, role, proxy.capacity)
        if site.network is not None:
            yield from _tunnel(site.network)
    if runtime is not None:
        yield from _fixed(runtime)


def _fixed(runtime: Runtime) -> Iterator[Asked]:
    """Those that are asked without any test, by CVMFS and by Frontier."""
    if runtime.cvmfs is not None and runtime.cvmfs.proxy is not None:
        remedy = f"name it under {BLOCK}.proxies instead, with its capacity"
        for text in _SEPARATORS.split(runtime.cvmfs.proxy):
            url = _url(text)
            if url is not None:
                yield Asked("runtime.cvmfs.proxy", url, CVMFS, remedy=remedy)
    block = runtime.siteconf
    if block is not None and block.tree is None and block.frontier is not None:
        for i, text in enumerate(block.frontier.proxies):
            url = _url(text)
            if url is not None:
                yield Asked(f"runtime.siteconf.frontier.proxies[{i}]", url, FRONTIER)


def _tunnel(network: Network) -> Iterator[Asked]:
    """The squid behind the tunnel, by its address outside: on the node it has another one."""
    forward, egress = network.web_forward, network.egress
    if forward is not None:
        url = _url(f"http://{forward.target}")
        if url is not None:
            # As a backup it would be asked through the chain, by its address outside.
            if network.web_proxy_is_chained and is_numeric(forward.host):
                remedy = f'add {BLOCK}.backup: [{{url: "{url}", capacity: {{clients: N}}}}]'
            else:
                remedy = f"bound them by limits.per_entry.glideins; a site that names it in {BLOCK} can state it"
            yield Asked(TUNNEL, url, TUNNEL, remedy=remedy)
    elif network.web_proxy == WEB_PROXY_EGRESS and egress.kind == HTTP_CONNECT:
        url = _url(f"http://{egress.target}")
        if url is not None:
            yield Asked(TUNNEL, url, TUNNEL)


def _url(text: str) -> Optional[str]:
    """Normalise it; None where it is no proxy, or another one on each node or at each site: loopback, a bare name."""
    try:
        url = normalised_url(text)
    except SiteError:
        return None
    host = url.rpartition("//")[2].rpartition(":")[0].strip("[]")
    try:
        return None if ipaddress.ip_address(host).is_loopback else url
    except ValueError:
        return url if "." in host else None
