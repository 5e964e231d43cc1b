# SPDX-License-Identifier: Apache-2.0
"""Checks of the `network` block: what cannot work behind such a firewall, each with its reason.

The chain is a preloaded library: it carries TCP to IPv4 targets, of dynamically linked programs, and nothing else.
Source: proxychains-ng 4.17 README and src/core.c; OpenSSH's forwards are TCP only, ssh(1) -L.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from glideinwms_bosco.errors import Problem
from glideinwms_bosco.site.crosscheck_runtime import own_attrs
from glideinwms_bosco.site.job_wrapper import whole_pilot_image
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

_Finding = tuple[str, str, str, str]
_ERROR, _WARNING = "error", "warning"
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
    for found in (_batch(site), _logins(site, network), _tunnel(network), _egress(network), _forwards(network)):
        yield from _problems(site, found)
    for found in (_web_proxy(network), _runtime(site, network), _networks(network), _library(site, network)):
        yield from _problems(site, found)
    for i, entry in enumerate(site.entries):
        yield from _problems(site, _entry(network, entry, f"entries[{i}]"))


def _problems(site: SiteDescription, findings: Iterator[_Finding]) -> Iterator[Problem]:
    for field, message, hint, severity in findings:
        yield Problem(site.file, site.line(field), field, message, hint, severity)


def _is_ipv6(host: str) -> bool:
    return ":" in host


def _batch(site: SiteDescription) -> Iterator[_Finding]:
    if site.batch.system == "condor":
        message = "blahp starts no job wrapper for batch condor, so nothing would open the tunnel before the pilot"
        hint = "have the startds there open the way themselves (USER_JOB_WRAPPER), and leave this block out"
        yield "network", message, hint, _ERROR


def _logins(site: SiteDescription, network: Network) -> Iterator[_Finding]:
    for i, host in enumerate(network.login_hosts):
        if _is_ipv6(host):
            yield f"network.login_hosts[{i}]", f"{host} is an IPv6 address", "give the IPv4 address or a name", _ERROR
    # Those of `login` are asked for there.
    if not network.login_host_keys and (site.login is None or site.login.host_keys):
        message = "no host key of the login nodes is known, and workers believe no other"
        yield "network.login_host_keys", message, "`gwms-bosco site hostkeys HOST` proposes them", _ERROR


def _tunnel(network: Network) -> Iterator[_Finding]:
    tunnel, field = network.tunnel, "network.tunnel"
    wants_key = tunnel.auth == EXISTING or (tunnel.auth == HOSTBASED and network.egress.kind == SSH)
    if tunnel.auth == SITE_KEY and not tunnel.accept_key_on_site:
        message = "site-key puts a private key on the site's storage, where payloads run as the same user"
        hint = "ask the centre, then set accept_key_on_site: true; or use hostbased"
        yield f"{field}.auth", message, hint, _ERROR
    elif tunnel.auth == SITE_KEY:
        message = "a private key will lie on the site's storage, readable by payloads, which run as the same user"
        hint = "it opens the egress proxy only, and only from network.workers; `hostbased` needs none"
        yield f"{field}.auth", message, hint, _WARNING
    if tunnel.auth == SITE_KEY and not network.workers:
        message = "missing: without it the key could be used from anywhere"
        yield "network.workers", message, "name the networks of the workers", _ERROR
    if wants_key and tunnel.existing_key is None:
        why = "auth is existing" if tunnel.auth == EXISTING else "the egress proxy knows no host of the site"
        yield f"{field}.existing_key", f"missing, and {why}", "name the key below the remote home", _ERROR
    if not wants_key and tunnel.existing_key is not None:
        yield f"{field}.existing_key", f"has no effect with auth {tunnel.auth}", "remove it", _WARNING
    if tunnel.auth != SITE_KEY and tunnel.accept_key_on_site:
        yield f"{field}.accept_key_on_site", "has no effect without auth site-key", "remove it", _WARNING


def _egress(network: Network) -> Iterator[_Finding]:
    egress, field = network.egress, "network.egress"
    if _is_ipv6(egress.host):
        yield f"{field}.host", f"{egress.host} is an IPv6 address", "give the IPv4 address or a name", _ERROR
    if egress.port not in EGRESS_PORTS:
        message = f"login nodes of such sites reach outside ports 80 and 443 only, not {egress.port}"
        yield f"{field}.port", message, "have the egress proxy listen on 80 or 443", _ERROR
    for name, value in (("user", egress.user), ("host_keys", egress.host_keys)):
        if egress.kind == SSH and not value:
            yield f"{field}.{name}", "missing, and the kind is ssh", "add it", _ERROR
        if egress.kind != SSH and value:
            yield f"{field}.{name}", f"has no effect with kind {egress.kind}", "remove it", _WARNING
    if not network.exit_addresses:
        message = "missing: the egress proxy cannot tell the site from anybody else"
        yield "network.exit_addresses", message, "ask the site for the addresses of its login nodes or NAT", _WARNING


def _forwards(network: Network) -> Iterator[_Finding]:
    names: dict[str, int] = {}
    targets: dict[str, int] = {}
    for i, forward in enumerate(network.forwards):
        field = f"network.forwards[{i}]"
        if forward.protocol == "udp":
            message = f"{forward.name} is UDP; ssh and proxychains carry TCP only"
            yield f"{field}.protocol", message, "use its TCP form, or do without it", _ERROR
        if _is_ipv6(forward.host):
            message = f"{forward.host} is an IPv6 address; the chain carries IPv4 only"
            yield f"{field}.host", message, "give the IPv4 address", _ERROR
        elif not network.dns and not is_numeric(forward.host):
            message = f"{forward.host} is a name, and no name can be resolved while dns is off"
            yield f"{field}.host", message, "give its address, or set network.dns: true", _ERROR
        if forward.name == WEB_PROXY_EGRESS:
            message = f"the name {WEB_PROXY_EGRESS} is that of the egress proxy itself"
            yield f"{field}.name", message, "choose another", _ERROR
        if names.setdefault(forward.name, i) != i:
            yield f"{field}.name", f"{forward.name} stands twice", "each forward has a name of its own", _ERROR
        if targets.setdefault(forward.target, i) != i:
            yield field, f"{forward.target} stands twice", "keep one", _WARNING
    if POOL not in names:
        message = "no forward is named pool, so pilots could not reach their collector"
        hint = "ask the frontend for host and port of its collector and CCB, and add them as {name: pool, ...}"
        yield "network.forwards", message, hint, _ERROR
    if not names.keys() - {POOL, network.web_proxy}:
        message = "has the collector only, and pilots fetch their files from the web servers of factory and frontend"
        yield (
            "network.forwards",
            message,
            "add those servers, unless entries have a proxy_url that is reached",
            _WARNING,
        )


def _web_proxy(network: Network) -> Iterator[_Finding]:
    field, forward = "network.web_proxy", network.web_forward
    if network.web_proxy is None:
        message = "missing: pilots get no web proxy from the tunnel, so CVMFS and Frontier need one within the site"
        yield "network", message, "name one, unless runtime has proxies that workers reach", _WARNING
    elif network.web_proxy == WEB_PROXY_EGRESS:
        if network.egress.kind != HTTP_CONNECT:
            message = f"an egress proxy of kind {network.egress.kind} answers no web requests"
            yield field, message, "name the forward to a squid", _ERROR
    elif forward is None:
        known = ", ".join(found.name for found in network.forwards)
        yield field, f"no forward is named {network.web_proxy}", f"egress, or one of: {known}", _ERROR
    elif network.web_proxy_is_chained and not is_numeric(forward.host):
        message = f"the CVMFS client asks for {forward.host} by UDP, past the chain, and gets no answer"
        yield field, message, "give the forward's address", _ERROR


def _runtime(site: SiteDescription, network: Network) -> Iterator[_Finding]:
    runtime = site.runtime
    whole = whole_pilot_image(site) is not None
    if network.cvmfsexec is not None and (runtime is None or runtime.cvmfs is None or not whole):
        message = "has no effect without runtime.cvmfs and runtime.container.mode pilot"
        yield "network.cvmfsexec", message, "pilots bring runtime.cvmfs.cvmfsexec along", _WARNING
    if runtime is None:
        return
    proxies, cvmfs = runtime.web_proxies, runtime.cvmfs
    if cvmfs is not None and cvmfs.parrot is not None and network.web_proxy_is_chained:
        message = (
            "parrot_run is statically linked: no library can be preloaded into it, so it does not reach the web proxy"
        )
        yield "runtime.cvmfs.parrot", message, "use a web proxy on the node's side (egress, or kind ssh)", _ERROR
    for place in _proxy_places(site):
        yield from _reached(network, *place)
    if proxies is not None and {"pac", "wpad"} & set(proxies.discover):
        message = "PAC files are fetched by name and name proxies outside, none of which can be reached"
        yield "runtime.web_proxies.discover", message, "discover: [environment], or none", _WARNING


def _proxy_places(site: SiteDescription) -> Iterator[tuple[str, str, str]]:
    """Field, host, port of every web proxy that the runtime block names."""
    runtime = site.runtime
    if runtime is None:
        return
    if runtime.web_proxies is not None:
        for name, proxy in runtime.web_proxies.named():
            yield (f"runtime.web_proxies.{name}.url", *proxy.url.rpartition("//")[2].rpartition(":")[::2])
    for url in re.split("[;|]", (runtime.cvmfs.proxy or "") if runtime.cvmfs is not None else ""):
        host, _, port = url.rpartition("//")[2].rpartition(":")
        if host:
            yield "runtime.cvmfs.proxy", host, port.rstrip("/")


def _reached(network: Network, field: str, host: str, port: str) -> Iterator[_Finding]:
    """Find a web proxy that pilots cannot reach: neither within the site nor among the forwards."""
    if _is_local(network, host):
        return
    if not is_numeric(host):
        message = f"the CVMFS client asks for {host} by UDP, past the chain, and gets no answer"
        yield field, message, "give the proxy's address", _ERROR
    elif f"{host}:{port}" not in {forward.target for forward in network.forwards}:
        message = f"{host}:{port} is neither in network.workers nor among network.forwards"
        yield field, message, "add a forward, or remove the proxy", _ERROR


def _is_local(network: Network, host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
        return any(address in ipaddress.ip_network(worker, strict=False) for worker in network.workers)
    except ValueError:
        return False  # a name, or a network that is refused where it stands


def _networks(network: Network) -> Iterator[_Finding]:
    for name, values in (("workers", network.workers), ("exit_addresses", network.exit_addresses)):
        for i, value in enumerate(values):
            field = f"network.{name}[{i}]"
            if _is_ipv6(value):
                yield field, f"{value} is IPv6; workers, ssh forwards and chain use IPv4", "remove it", _ERROR
                continue
            try:
                found = ipaddress.ip_network(value, strict=False)
            except ValueError:
                yield field, f"{value} is no network", "such as 10.77.1.0/24", _ERROR
                continue
            if str(found.network_address) != value.partition("/")[0]:
                yield field, f"{value} has bits beyond its mask, which sshd refuses", f"{found} is meant?", _ERROR
            elif found.prefixlen == 0:
                yield field, f"{value} is everybody", "name the site's own networks", _ERROR


def _library(site: SiteDescription, network: Network) -> Iterator[_Finding]:
    for i, path in enumerate(network.preload):
        if not _LIBRARY.search(path):
            message = f"{path} is no library; programs such as proxychains4 are not needed"
            yield f"network.preload[{i}]", message, "name libproxychains4.so", _ERROR
    if "blah_job_wrapper" in dict(site.batch.settings):
        message = "the bundle names our own job wrapper there, which opens the tunnel"
        yield "batch.settings.blah_job_wrapper", message, "remove it", _ERROR


def _entry(network: Network, entry: Entry, where: str) -> Iterator[_Finding]:
    for field, name, value in own_attrs(entry):
        undone = _UNDONE.get(name)
        if undone is not None and value.upper() == undone[0]:
            yield f"{where}.{field}.{name}", f"{value} cannot work: {undone[1]}", "remove it", _ERROR
    if entry.proxy_url is None or entry.proxy_url == "OSG":
        return
    url, field = urlsplit(entry.proxy_url), f"{where}.proxy_url"
    host, port = url.hostname or "", url.port or 80
    if _is_local(network, host):
        return
    if not network.dns and not is_numeric(host):
        yield field, f"{host} is a name, and no name can be resolved while dns is off", "give its address", _ERROR
    elif f"{host}:{port}" not in {forward.target for forward in network.forwards}:
        message = f"{host}:{port} is neither in network.workers nor among network.forwards"
        yield field, message, "add a forward, or remove it", _ERROR
