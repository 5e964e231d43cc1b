# SPDX-License-Identifier: Apache-2.0
"""The `network` block of a site file as frozen, typed objects: how workers that reach only the login node get out.

The constructors check again what must never be wrong: these texts reach egress.conf, which the job wrapper reads on the
node, configurations of ssh and proxychains, and authorized_keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from glideinwms_bosco.errors import SiteError
from glideinwms_bosco.site.runtime import check_node_value

HTTP_CONNECT, SOCKS5, SSH = "http-connect", "socks5", "ssh"
EGRESS_KINDS = (HTTP_CONNECT, SOCKS5, SSH)
HOSTBASED, EXISTING, SITE_KEY = "hostbased", "existing", "site-key"
AUTHS = (HOSTBASED, EXISTING, SITE_KEY)
EGRESS_PORTS = (80, 443)
WEB_PROXY_EGRESS = "egress"
"""Of `web_proxy`: the egress proxy itself answers web requests."""
POOL = "pool"
"""Name of the forward to the pool's collector, which no site can do without."""
LOOPBACK = "127.0.0.0/8"
"""Never chained, as the networks of the workers."""
PILOT_LIFE_DAYS = 8
"""No pilot lives longer: its connections may last as long, and what is older was left behind."""
DEFAULT_MAX_DOWN_S = 300
DEFAULT_LOGIN_PORT = 22
# proxychains' own. Source: proxychains-ng 4.17 src/proxychains.conf.
DEFAULT_CONNECT_TIMEOUT_MS = 8000
DEFAULT_READ_TIMEOUT_MS = 15000
DEFAULT_PRELOAD = (
    "/usr/lib64/libproxychains4.so",
    "/usr/lib/libproxychains4.so",
    "/usr/lib/x86_64-linux-gnu/libproxychains.so.4",
    "/usr/lib/aarch64-linux-gnu/libproxychains.so.4",
)
"""Where the packages of EPEL, Arch and Debian put it."""
SITE_KEY_PATH = "egress/id_ed25519"
"""Of the key that is made on the site, below its install folder: beside versions/, so that an upgrade keeps it."""

_NUMERIC = re.compile(r"(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}")
# Of which the egress proxy is also a web proxy: it fetches and caches what is there.
_WEB_NAME = re.compile(r"(web|stratum1|frontier|cvmfs)([0-9_-].*)?")
_LISTED = re.compile(r"[A-Za-z0-9_./:@-]+")


def is_numeric(host: str) -> bool:
    """Tell whether a host is an IPv4 address."""
    return _NUMERIC.fullmatch(host) is not None


def _check_items(what: str, *values: str) -> None:
    """Refuse what would be two items of a list in egress.conf, or none."""
    for value in values:
        if not _LISTED.fullmatch(value):
            raise SiteError(f"{what} {value[:80]!r} is empty or has a character that splits lists on the node")


@dataclass(frozen=True)
class Tunnel:
    """How workers log in to the login node.

    Attributes:
        auth: hostbased, existing or site-key.
        existing_key: path of a private key below the remote home; of `existing`, and of `hostbased` with an egress
            proxy of kind ssh, which knows no host of the site.
        accept_key_on_site: the operator knows that `site-key` puts a private key on the site's storage.
        max_down_s: a pilot takes no more payloads when the tunnel has been down longer.
    """

    auth: str
    existing_key: Optional[str] = None
    accept_key_on_site: bool = False
    max_down_s: int = DEFAULT_MAX_DOWN_S

    def __post_init__(self) -> None:
        if self.existing_key is not None:
            _check_items("existing_key", self.existing_key)


@dataclass(frozen=True)
class EgressProxy:
    """The proxy at the home institute. `user` and `host_keys` (`type base64`) are those of kind ssh."""

    kind: str
    host: str
    port: int
    user: Optional[str] = None
    host_keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_items("egress host", self.host)
        if self.user is not None:
            _check_items("egress user", self.user)

    @property
    def target(self) -> str:
        """Host and port as ssh and sshd spell them."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Forward:
    """Something outside that the pilot and its payloads reach. `protocol`: tcp, or udp, which cannot work."""

    name: str
    host: str
    port: int
    protocol: str = "tcp"

    def __post_init__(self) -> None:
        _check_items("forward", self.name, self.host)

    @property
    def target(self) -> str:
        """Host and port as ssh, sshd and squid spell them."""
        return f"{self.host}:{self.port}"

    @property
    def is_web(self) -> bool:
        """Whether its name says that it is a web server, whose answers may be cached."""
        return _WEB_NAME.fullmatch(self.name) is not None


@dataclass(frozen=True)
class ConnectLimits:
    """How long proxychains waits for a connection, and for the proxy's answer (ms)."""

    connect_timeout_ms: int = DEFAULT_CONNECT_TIMEOUT_MS
    read_timeout_ms: int = DEFAULT_READ_TIMEOUT_MS


@dataclass(frozen=True)
class Network:
    """All of it.

    Attributes:
        login_hosts: the login nodes as workers reach them.
        login_host_keys: `type base64`; those of the site's `login` unless the block names others.
        workers: networks of the workers (CIDR or address), from which a site's key may be used and which are not
            chained.
        exit_addresses: the site's addresses as the egress proxy sees them (CIDR or address).
        forwards: everything outside that is reached.
        web_proxy: `egress`, the name of a forward, or None.
        dns: names are resolved through the chain.
        preload: libraries of proxychains on the site or in the image; the first that works is taken.
        payloads: they are chained too.
        cvmfsexec: folder of a distribution on the site, for CVMFS before the container.
    """

    login_hosts: tuple[str, ...]
    tunnel: Tunnel
    egress: EgressProxy
    forwards: tuple[Forward, ...]
    workers: tuple[str, ...] = ()
    exit_addresses: tuple[str, ...] = ()
    login_port: int = DEFAULT_LOGIN_PORT
    login_host_keys: tuple[str, ...] = ()
    web_proxy: Optional[str] = None
    dns: bool = False
    preload: tuple[str, ...] = DEFAULT_PRELOAD
    payloads: bool = True
    cvmfsexec: Optional[str] = None
    limits: ConnectLimits = ConnectLimits()

    def __post_init__(self) -> None:
        for what, values in (
            ("login_hosts", self.login_hosts),
            ("workers", self.workers),
            ("exit_addresses", self.exit_addresses),
            ("preload", self.preload),
        ):
            _check_items(what, *values)
        check_node_value("cvmfsexec", self.cvmfsexec)

    def forward(self, name: str) -> Optional[Forward]:
        """The forward of that name."""
        return next((forward for forward in self.forwards if forward.name == name), None)

    @property
    def web_forward(self) -> Optional[Forward]:
        """The forward that is the web proxy; None when there is none, or the egress proxy is it."""
        if self.web_proxy is None or self.web_proxy == WEB_PROXY_EGRESS:
            return None
        return self.forward(self.web_proxy)

    @property
    def web_proxy_is_chained(self) -> bool:
        """Whether the web proxy is reached through the chain, and not on the node's loopback."""
        return self.web_forward is not None and self.egress.kind != SSH


def network_of(data: Mapping[str, Any], login_host_keys: Sequence[str] = ()) -> Network:
    """Build it from a block that the schema has accepted.

    Args:
        data: the block.
        login_host_keys: of the site's login host.

    Raises:
        SiteError: a value must not reach a node.
    """
    plain: dict[str, Any] = {
        name: data[name] for name in ("login_port", "web_proxy", "dns", "payloads", "cvmfsexec") if name in data
    }
    lists: dict[str, Any] = {
        name: tuple(data[name]) for name in ("workers", "exit_addresses", "preload") if name in data
    }
    egress = data["egress"]
    return Network(
        login_hosts=tuple(data["login_hosts"]),
        tunnel=Tunnel(**data["tunnel"]),
        egress=EgressProxy(**{**egress, "host_keys": tuple(egress.get("host_keys", ()))}),
        forwards=tuple(Forward(**item) for item in data["forwards"]),
        login_host_keys=tuple(data.get("login_host_keys", login_host_keys)),
        limits=ConnectLimits(**data.get("limits", {})),
        **lists,
        **plain,
    )
