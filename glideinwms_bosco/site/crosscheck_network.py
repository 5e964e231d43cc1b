# SPDX-License-Identifier: Apache-2.0
"""Checks of the `network` block: what cannot work behind such a firewall, each with its reason.

The chain is a preloaded library: it carries TCP to IPv4 targets, of dynamically linked programs, and nothing else.
Source: proxychains-ng 4.17 README and src/core.c; OpenSSH's forwards are TCP only, ssh(1) -L.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from glideinwms_bosco.errors import Problem
from glideinwms_bosco.site.crosscheck_network_reach import (
    ERROR,
    NAMES_OFF,
    WARNING,
    Finding,
    downloads_by_squid,
    is_not_chained,
    reach_findings,
)
from glideinwms_bosco.site.crosscheck_runtime import own_attrs
from glideinwms_bosco.site.model import Entry, SiteDescription
from glideinwms_bosco.site.network import (
    EGRESS_PORTS,
    EXISTING,
    HOSTBASED,
    HTTP_CONNECT,
    POOL,
    SITE_KEY,
    SSH,
    WEB_PROXY_EGRESS,
    Network,
    is_numeric,
)

_LIBRARY = re.compile(r"\.so(\.[0-9]+)*$")
# What the block sets by itself, and which value of an entry would undo it.
_UNDONE = {
    "ENABLE_IPV6": ("TRUE", "the chain carries IPv4 only"),
    "WANT_UDP_COMMAND_SOCKET": ("TRUE", "no UDP leaves the site"),
    "UPDATE_COLLECTOR_WITH_TCP": ("FALSE", "no UDP leaves the site"),
    "USE_CCB": ("FALSE", "nobody can connect to a pilot there"),
}


def check_network(site: SiteDescription) -> Iterator[Problem]:
    """Find what of the network block, and of the rest of the file because of it, cannot work."""
    network = site.network
    if network is None or site.external:
        return
    for found in (_batch(site), _logins(site, network), _tunnel(network), _egress(network), _forwards(site, network)):
        yield from _problems(site, found)
    for found in (_web_proxy(network), _networks(network), _library(site, network), reach_findings(site, network)):
        yield from _problems(site, found)
    for i, entry in enumerate(site.entries):
        yield from _problems(site, _entry(entry, f"entries[{i}]"))


def _problems(site: SiteDescription, findings: Iterator[Finding]) -> Iterator[Problem]:
    for field, message, hint, severity in findings:
        yield Problem(site.file, site.line(field), field, message, hint, severity)


def _is_ipv6(host: str) -> bool:
    return ":" in host


def _batch(site: SiteDescription) -> Iterator[Finding]:
    if site.batch.system == "condor":
        message = "blahp starts no job wrapper for batch condor, so nothing would open the tunnel before the pilot"
        hint = "have the startds there open the way themselves (USER_JOB_WRAPPER), and leave this block out"
        yield "network", message, hint, ERROR


def _logins(site: SiteDescription, network: Network) -> Iterator[Finding]:
    for i, host in enumerate(network.login_hosts):
        if _is_ipv6(host):
            yield f"network.login_hosts[{i}]", f"{host} is an IPv6 address", "give the IPv4 address or a name", ERROR
    # Those of `login` are asked for there.
    if not network.login_host_keys and (site.login is None or site.login.host_keys):
        message = "no host key of the login nodes is known, and workers believe no other"
        yield "network.login_host_keys", message, "`gwms-bosco site hostkeys HOST` proposes them", ERROR


def _tunnel(network: Network) -> Iterator[Finding]:
    tunnel, field = network.tunnel, "network.tunnel"
    wants_key = tunnel.auth == EXISTING or (tunnel.auth == HOSTBASED and network.egress.kind == SSH)
    if tunnel.auth == SITE_KEY and not tunnel.accept_key_on_site:
        message = "site-key puts a private key on the site's storage, where payloads run as the same user"
        hint = "ask the centre, then set accept_key_on_site: true; or use hostbased"
        yield f"{field}.auth", message, hint, ERROR
    elif tunnel.auth == SITE_KEY:
        message = "a private key will lie on the site's storage, readable by payloads, which run as the same user"
        hint = "it opens the egress proxy only, and only from network.workers; `hostbased` needs none"
        yield f"{field}.auth", message, hint, WARNING
    if tunnel.auth == SITE_KEY and not network.workers:
        message = "missing: without it the key could be used from anywhere"
        yield "network.workers", message, "name the networks of the workers", ERROR
    if wants_key and tunnel.existing_key is None:
        why = "auth is existing" if tunnel.auth == EXISTING else "the egress proxy knows no host of the site"
        yield f"{field}.existing_key", f"missing, and {why}", "name the key below the remote home", ERROR
    if not wants_key and tunnel.existing_key is not None:
        yield f"{field}.existing_key", f"has no effect with auth {tunnel.auth}", "remove it", WARNING
    if tunnel.auth != SITE_KEY and tunnel.accept_key_on_site:
        yield f"{field}.accept_key_on_site", "has no effect without auth site-key", "remove it", WARNING


def _egress(network: Network) -> Iterator[Finding]:
    egress, field = network.egress, "network.egress"
    if _is_ipv6(egress.host):
        yield f"{field}.host", f"{egress.host} is an IPv6 address", "give the IPv4 address or a name", ERROR
    elif is_not_chained(network, egress.host):
        message = f"{egress.host} is in network.workers or on the node itself, and the egress proxy stands outside"
        yield f"{field}.host", message, "narrow network.workers", WARNING
    if egress.port not in EGRESS_PORTS:
        message = f"login nodes of such sites reach outside ports 80 and 443 only, not {egress.port}"
        yield f"{field}.port", message, "have the egress proxy listen on 80 or 443", ERROR
    for name, value in (("user", egress.user), ("host_keys", egress.host_keys)):
        if egress.kind == SSH and not value:
            yield f"{field}.{name}", "missing, and the kind is ssh", "add it", ERROR
        if egress.kind != SSH and value:
            yield f"{field}.{name}", f"has no effect with kind {egress.kind}", "remove it", WARNING
    if not network.exit_addresses:
        message = "missing: the egress proxy cannot tell the site from anybody else"
        yield "network.exit_addresses", message, "ask the site for the addresses of its login nodes or NAT", WARNING


def _forwards(site: SiteDescription, network: Network) -> Iterator[Finding]:
    names: dict[str, int] = {}
    targets: dict[str, int] = {}
    for i, forward in enumerate(network.forwards):
        field = f"network.forwards[{i}]"
        if forward.protocol == "udp":
            message = f"{forward.name} is UDP; ssh and proxychains carry TCP only"
            yield f"{field}.protocol", message, "use its TCP form, or do without it", ERROR
        if _is_ipv6(forward.host):
            message = f"{forward.host} is an IPv6 address; the chain carries IPv4 only"
            yield f"{field}.host", message, "give the IPv4 address", ERROR
        elif not network.dns and not is_numeric(forward.host):
            message = f"{forward.host} {NAMES_OFF}"
            yield f"{field}.host", message, "give its address, or set network.dns: true", ERROR
        elif is_not_chained(network, forward.host) and not (
            network.egress.kind == SSH and forward is network.web_forward
        ):
            # That one ssh itself connects to, from the egress proxy on.
            message = f"{forward.host} is in network.workers or on the node itself: programs connect to it directly"
            yield f"{field}.host", message, "narrow network.workers, unless nodes reach it without the tunnel", WARNING
        if forward.name == WEB_PROXY_EGRESS:
            message = f"the name {WEB_PROXY_EGRESS} is that of the egress proxy itself"
            yield f"{field}.name", message, "choose another", ERROR
        if names.setdefault(forward.name, i) != i:
            yield f"{field}.name", f"{forward.name} stands twice", "each forward has a name of its own", ERROR
        if targets.setdefault(forward.target, i) != i:
            yield field, f"{forward.target} stands twice", "keep one", WARNING
    if POOL not in names:
        message = "no forward is named pool, so pilots could not reach their collector"
        hint = "ask the frontend for host and port of its collector and CCB, and add them as {name: pool, ...}"
        yield "network.forwards", message, hint, ERROR
    if not names.keys() - {POOL, network.web_proxy} and not downloads_by_squid(site, network):
        message = "has the collector only, and pilots fetch their files from the web servers of factory and frontend"
        yield (
            "network.forwards",
            message,
            "add those servers, unless entries have a proxy_url that is reached",
            WARNING,
        )


def _web_proxy(network: Network) -> Iterator[Finding]:
    field, forward = "network.web_proxy", network.web_forward
    if network.web_proxy is None:
        message = "missing: pilots get no web proxy from the tunnel, so CVMFS and Frontier need one within the site"
        yield "network", message, "name one, unless runtime has proxies that workers reach", WARNING
    elif network.web_proxy == WEB_PROXY_EGRESS:
        if network.egress.kind != HTTP_CONNECT:
            message = f"an egress proxy of kind {network.egress.kind} answers no web requests"
            yield field, message, "name the forward to a squid", ERROR
    elif forward is None:
        known = ", ".join(found.name for found in network.forwards)
        yield field, f"no forward is named {network.web_proxy}", f"egress, or one of: {known}", ERROR
    elif network.web_proxy_is_chained and not is_numeric(forward.host):
        message = f"the CVMFS client asks for {forward.host} by UDP, past the chain, and gets no answer"
        yield field, message, "give the forward's address", ERROR


def _networks(network: Network) -> Iterator[Finding]:
    for name, values in (("workers", network.workers), ("exit_addresses", network.exit_addresses)):
        for i, value in enumerate(values):
            field = f"network.{name}[{i}]"
            if _is_ipv6(value):
                yield field, f"{value} is IPv6; workers, ssh forwards and chain use IPv4", "remove it", ERROR
                continue
            try:
                found = ipaddress.ip_network(value, strict=False)
            except ValueError:
                yield field, f"{value} is no network", "such as 10.77.1.0/24", ERROR
                continue
            if str(found.network_address) != value.partition("/")[0]:
                yield field, f"{value} has bits beyond its mask, which sshd refuses", f"{found} is meant?", ERROR
            elif found.prefixlen == 0:
                yield field, f"{value} is everybody", "name the site's own networks", ERROR


def _library(site: SiteDescription, network: Network) -> Iterator[Finding]:
    for i, path in enumerate(network.preload):
        if not _LIBRARY.search(path):
            message = f"{path} is no library; programs such as proxychains4 are not needed"
            yield f"network.preload[{i}]", message, "name libproxychains4.so", ERROR
    if "blah_job_wrapper" in dict(site.batch.settings):
        message = "the bundle names our own job wrapper there, which opens the tunnel"
        yield "batch.settings.blah_job_wrapper", message, "remove it", ERROR


def _entry(entry: Entry, where: str) -> Iterator[Finding]:
    for field, name, value in own_attrs(entry):
        undone = _UNDONE.get(name)
        if undone is not None and value.upper() == undone[0]:
            yield f"{where}.{field}.{name}", f"{value} cannot work: {undone[1]}", "remove it", ERROR
