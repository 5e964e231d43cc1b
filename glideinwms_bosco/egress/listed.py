# SPDX-License-Identifier: Apache-2.0
"""What an egress proxy lets pass: from which addresses, to which targets; checked for the files it will stand in. Pure.

The site file has been checked when it was read. This is looked at once more, because one wrong word here opens the home
institute: squid, sshd and Dante each have names that mean everybody.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.errors import EgressError
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.site.network import HTTP_CONNECT, WEB_PROXY_EGRESS, EgressProxy, Forward, is_numeric

MAX_PORT = 65535
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - every proxy refuses who is not a source
INWARD = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4"),
)
"""Where a name must not lead. Source: IANA IPv4 Special-Purpose Address Registry, those not globally reachable."""

# A top-level domain is never a number: 10.77.1 or 0x7f.1 would be read as an address.
_NAME = re.compile(
    r"(?=.{1,253}\Z)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)
_SITE = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_PUBLIC_KEY = re.compile(r"([a-z][a-z0-9@.-]{2,63} [A-Za-z0-9+/]{60,8000}={0,2})( [ -~]{0,200})?")


@dataclass(frozen=True)
class Listed:
    """What passes.

    Attributes:
        site: its short name.
        sources: IPv4 networks with their length, as the site's connections arrive.
        targets: what may be connected to.
        web: of these, what the egress proxy may fetch itself; empty when it is no web proxy.
        listen: address to listen on.
        egress: kind, host and port.
    """

    site: str
    sources: tuple[str, ...]
    targets: tuple[Forward, ...]
    web: tuple[Forward, ...]
    listen: str
    egress: EgressProxy

    @property
    def all_numeric(self) -> bool:
        """Whether no target is a name."""
        return all(is_numeric(target.host) for target in self.targets)


def listed(site: SiteDescription, listen: Optional[str] = None) -> Listed:
    """What the site's egress proxy lets pass.

    Args:
        site: has a network block.
        listen: address to listen on; all when left out.

    Raises:
        EgressError: there is no network block, or something in it must not stand in a proxy's configuration.
    """
    network = site.network
    if network is None:
        raise EgressError(f"{site.file or site.name}: has no network block", "add one, see docs/closed-sites.md")
    if not network.exit_addresses:
        raise EgressError(
            "network.exit_addresses is not set, so the egress proxy would serve everybody",
            "ask the site for the addresses of its login nodes or NAT",
        )
    # It stands in configurations before and behind other words.
    if not is_numeric(network.egress.host) and not _NAME.fullmatch(network.egress.host):
        raise EgressError(f"egress host {network.egress.host[:80]!r} is neither an IPv4 address nor a full host name")
    if listen is not None and not is_numeric(listen):
        raise EgressError(f"{listen[:80]!r} is no IPv4 address to listen on", "such as 192.0.2.1")
    if not 1 <= network.egress.port <= MAX_PORT:
        raise EgressError(f"port {network.egress.port} of the egress proxy is no port", "80 or 443")
    targets = tuple({forward.target: forward for forward in network.forwards}.values())
    for target in targets:
        _check_target(target)
    answers = network.egress.kind == HTTP_CONNECT and network.web_proxy == WEB_PROXY_EGRESS
    if not _SITE.fullmatch(site.short_name):
        raise EgressError(f"{site.short_name[:80]!r} cannot stand in a configuration", "rename the site file")
    return Listed(
        site=site.short_name,
        sources=tuple(_source(value) for value in network.exit_addresses),
        targets=targets,
        web=tuple(target for target in targets if target.is_web) if answers else (),
        listen=listen or ANY_ADDRESS,
        egress=network.egress,
    )


def _check_target(target: Forward) -> None:
    if not is_numeric(target.host) and not _NAME.fullmatch(target.host):
        raise EgressError(
            f"forward {target.name[:32]!r}: {target.host[:80]!r} is neither an IPv4 address nor a full host name",
            "such as 192.0.2.10 or pool.example.org",
        )
    if isinstance(target.port, bool) or not 1 <= target.port <= MAX_PORT:
        raise EgressError(f"forward {target.name[:32]!r}: {target.port} is no port")
    if target.protocol != "tcp":
        raise EgressError(f"forward {target.name[:32]!r}: only TCP passes", "remove it")


def _source(value: str) -> str:
    try:
        found = ipaddress.IPv4Network(value)
    except ValueError:
        raise EgressError(f"exit address {value[:80]!r} is no IPv4 network", "such as 203.0.113.0/28") from None
    if found.prefixlen == 0:
        raise EgressError(f"exit address {value} is everybody", "name the site's own")
    return str(found)


def everything_but(addresses: Iterable[str]) -> tuple[str, ...]:
    """All of IPv4 without these addresses, as networks in order."""
    rest = [ipaddress.IPv4Network("0.0.0.0/0")]
    for address in set(addresses):
        alone = ipaddress.IPv4Network(address)
        rest = [
            part
            for network in rest
            for part in (network.address_exclude(alone) if alone.subnet_of(network) else (network,))
        ]
    return tuple(str(network) for network in sorted(rest))


def check_user(user: Optional[str]) -> str:
    """The account of kind ssh.

    Raises:
        EgressError: there is none, or it could mean something else to sshd.
    """
    if user is None or not _USER.fullmatch(user):
        raise EgressError(f"network.egress.user {str(user)[:80]!r} is no account name", "such as cms-egress")
    return user


def public_key(text: str) -> str:
    """The one key of a .pub file, as `type base64`.

    Raises:
        EgressError: it is not exactly one plain public key.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    found = _PUBLIC_KEY.fullmatch(lines[0].strip()) if len(lines) == 1 else None
    if found is None:
        raise EgressError("the file does not hold exactly one public key without options", "give the .pub file")
    return found[1]
