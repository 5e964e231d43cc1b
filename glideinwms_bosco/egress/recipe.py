# SPDX-License-Identifier: Apache-2.0
"""The whole way out of a closed site as facts for people: hops, forwards, limits of the key, what pilots get. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from glideinwms_bosco.egress.attrs import egress_attrs
from glideinwms_bosco.egress.conf import authorized_key_options, egress_key_options, key_path
from glideinwms_bosco.errors import EgressError
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.site.network import HTTP_CONNECT, LOOPBACK, SITE_KEY, SOCKS5, SSH, WEB_PROXY_EGRESS, Network

_CHAINS = {HTTP_CONNECT: "http 127.0.0.1 P", SOCKS5: "socks5 127.0.0.1 P", SSH: "socks5 127.0.0.1 P"}


@dataclass(frozen=True)
class Recipe:
    """All of it.

    Attributes:
        ways: what is done, in order: name, text. P and Q stand for ports that each node chooses.
        forwards: name, `host:port`, and how pilots use it.
        key_limits: the options in authorized_keys, by where.
        pilot: attributes of the entries.
    """

    site: str
    kind: str
    ways: tuple[tuple[str, str], ...]
    forwards: tuple[tuple[str, str, str], ...]
    key_limits: tuple[tuple[str, str], ...]
    pilot: tuple[tuple[str, str], ...]

    def as_json(self) -> dict[str, Any]:
        """The same for `--json`."""
        return {
            "site": self.site,
            "kind": self.kind,
            "ways": dict(self.ways),
            "forwards": [{"name": name, "target": target, "use": use} for name, target, use in self.forwards],
            "key_limits": dict(self.key_limits),
            "pilot": dict(self.pilot),
        }


def recipe(site: SiteDescription) -> Recipe:
    """The recipe of a site.

    Raises:
        EgressError: it has no network block.
    """
    network = site.network
    if network is None:
        raise EgressError(f"{site.file or site.name}: has no network block", "add one, see docs/closed-sites.md")
    return Recipe(
        site=site.short_name,
        kind=network.egress.kind,
        ways=tuple(_ways(site, network).items()),
        forwards=tuple((forward.name, forward.target, _use(network, forward.name)) for forward in network.forwards),
        key_limits=tuple(_limits(site, network).items()),
        pilot=tuple((attr.name, attr.value) for attr in egress_attrs(site)),
    )


def _ways(site: SiteDescription, network: Network) -> dict[str, str]:
    logins = " or ".join(f"{host}:{network.login_port}" for host in network.login_hosts)
    key = key_path(site, network)
    tunnel = network.tunnel
    return {
        "login": f"worker -> {logins} ({tunnel.auth}{f', key ~/{key}' if key else ''})",
        "tunnel": _tunnel(network),
        "egress proxy": f"{network.egress.kind} on {network.egress.target}, "
        f"for {', '.join(network.exit_addresses) or 'everybody (exit_addresses is not set)'}",
        "chain": _CHAINS[network.egress.kind],
        "not chained": ", ".join((LOOPBACK, *network.workers)),
        "names": "resolved through the chain" if network.dns else "not resolved: addresses only",
        "web proxy": _web_proxy(network),
        "payloads": "chained too" if network.payloads else "not chained: no way out",
        "drain": f"no more payloads after {tunnel.max_down_s} s without the tunnel",
    }


def _tunnel(network: Network) -> str:
    egress = network.egress
    if egress.kind != SSH:
        return f"ssh -N -L 127.0.0.1:P:{egress.target} LOGIN"
    forward = network.web_forward
    web = f" -L 127.0.0.1:Q:{forward.target}" if forward is not None else ""
    return f"ssh -N -D 127.0.0.1:P{web} -o ProxyCommand='ssh -W {egress.target} LOGIN' {egress.user}@{egress.host}"


def _web_proxy(network: Network) -> str:
    if network.web_proxy == WEB_PROXY_EGRESS:
        return "http://127.0.0.1:P, the egress proxy itself"
    forward = network.web_forward
    if forward is None:
        return "none from the tunnel"
    if network.web_proxy_is_chained:
        return f"http://{forward.target}, through the chain"
    return f"http://127.0.0.1:Q, which is {forward.target}"


def _use(network: Network, name: str) -> str:
    if name == network.web_proxy:
        return "web proxy"
    fetched = network.egress.kind == HTTP_CONNECT and network.web_proxy == WEB_PROXY_EGRESS
    by_name = next(forward for forward in network.forwards if forward.name == name)
    return "chain, web" if fetched and by_name.is_web else "chain"


def _limits(site: SiteDescription, network: Network) -> dict[str, str]:
    limits = {}
    if network.tunnel.auth == SITE_KEY and network.workers:
        limits["login nodes"] = authorized_key_options(site)
    if network.egress.kind == SSH and network.exit_addresses:
        limits["egress proxy"] = egress_key_options(site)
    return limits
