# SPDX-License-Identifier: Apache-2.0
"""Checks of what the rest of a closed site's file points pilots and payloads at, past what the network block lets out.

Source: proxychains-ng 4.17 src/libproxychains.c, connect(): an address in a localnet is connected to directly.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from glideinwms_bosco.site.crosscheck_runtime import own_attrs
from glideinwms_bosco.site.job_wrapper import whole_pilot_image
from glideinwms_bosco.site.model import Entry, SiteDescription
from glideinwms_bosco.site.network import LOOPBACK, Network, is_numeric
from glideinwms_bosco.site.runtime import Runtime

Finding = tuple[str, str, str, str]
"""Field, message, hint, severity."""
ERROR, WARNING = "error", "warning"
NAMES_OFF = "is a name, and no name can be resolved while dns is off"

# Attributes by which an entry names hosts to its pilots. Source: glideinWMS 3.10 creation/web_base/condor_vars.lst,
# setup_network.sh, collector_setup.sh.
_HOST_ATTRS = (
    *("GLIDEIN_Collector", "GLIDEIN_CCB", "GLIDEIN_Factory_Collector", "GLIDEIN_Site_Collector"),
    "GLIDEIN_Master_Collector",
)
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
# Source: IANA Service Name and Port Number Registry; XRootD 5 documentation, xrd.port.
_PORTS = {
    **{"http": "80", "dav": "80", "https": "443", "davs": "443", "root": "1094", "roots": "1094", "xroot": "1094"},
    **{"xroots": "1094", "gsiftp": "2811"},
}
_NO_PROXY = (None, "OSG", "None")
"""Of `proxy_url`: words that name no host."""


def reach_findings(site: SiteDescription, network: Network) -> Iterator[Finding]:
    """Find what pilots and payloads would not reach."""
    yield from _cvmfs_before(site, network)
    if site.runtime is not None:
        yield from _runtime(site.runtime, network, whole=whole_pilot_image(site) is not None)
    for i, entry in enumerate(site.entries):
        yield from _entry(network, entry, f"entries[{i}]")


def is_not_chained(network: Network, host: str) -> bool:
    """Tell whether programs connect to a host directly: it is the node itself, or in the networks of the workers."""
    try:
        address = ipaddress.ip_address(host)
        return any(address in ipaddress.ip_network(own, strict=False) for own in (LOOPBACK, *network.workers))
    except ValueError:
        return False  # a name, or a network that is refused where it stands


def url_is_reached(network: Network, url: str) -> bool:
    """Tell whether the host of a URL is within the site or among the forwards; one that names no host is no matter."""
    parts = urlsplit(url)
    host, (_, _, stated) = parts.hostname or "", parts.netloc.rpartition("]")[2].partition(":")
    port = stated or _PORTS.get(parts.scheme, "")
    return not host or is_not_chained(network, host) or _is_forward(network, host, port)


def _cvmfs_before(site: SiteDescription, network: Network) -> Iterator[Finding]:
    if network.cvmfsexec is None:
        return
    if site.runtime is None or site.runtime.cvmfs is None or whole_pilot_image(site) is None:
        message = "has no effect without runtime.cvmfs and runtime.container.mode pilot"
        yield "network.cvmfsexec", message, "pilots bring runtime.cvmfs.cvmfsexec along", WARNING


def _runtime(runtime: Runtime, network: Network, *, whole: bool) -> Iterator[Finding]:
    proxies, cvmfs = runtime.web_proxies, runtime.cvmfs
    places = tuple(_proxy_places(runtime))
    chained = [f"{host}:{port}" for _, host, port in places if _is_forward(network, host, port)]
    if network.web_forward is not None and network.web_proxy_is_chained:
        chained.append(network.web_forward.target)
    if cvmfs is not None and cvmfs.parrot is not None and chained:
        message = "parrot_run is statically linked: no library can be preloaded into it, so it does not reach"
        hint = "use a web proxy on the node's side (web_proxy egress, or kind ssh) and no other"
        yield "runtime.cvmfs.parrot", f"{message} the web proxy {chained[0]}", hint, ERROR
    for place in places:
        yield from _reached(network, *place)
    if proxies is not None and {"pac", "wpad"} & set(proxies.discover):
        message = "PAC files are fetched by name and name proxies outside, none of which can be reached"
        yield "runtime.web_proxies.discover", message, "discover: [environment], or none", WARNING
    if network.payloads and not whole:
        yield from _own_containers(runtime)
    yield from _frontier(runtime, network)


def _own_containers(runtime: Runtime) -> Iterator[Finding]:
    """Payloads that are not where the pilot is: the library was tried there, and may not fit here."""
    reason = "where no library is preloaded, so that they reach nothing outside"
    if runtime.container is not None and runtime.container.mode == "payload":
        message = f"payloads would run in a container of their own, {reason}"
        hint = "mode: pilot, or network.payloads: false for payloads that need nothing outside"
        yield "runtime.container.mode", message, hint, ERROR
    elif "container" in runtime.rungs():
        message = f"where this rung is the one that works, payloads run in a container of their own, {reason}"
        yield "runtime.cvmfs", message, "name other rungs, or container.mode: pilot", WARNING


def _frontier(runtime: Runtime, network: Network) -> Iterator[Finding]:
    block = runtime.siteconf
    if block is None or block.frontier is None or block.tree is not None:
        return
    for name, urls in (("proxies", block.frontier.proxies), ("backup_proxies", block.frontier.backup_proxies)):
        lost = [url for url in urls if not url_is_reached(network, url)]
        if lost:
            message = f"not reached from there: {', '.join(lost)}; Frontier clients wait for each in vain"
            hint = f"add forwards (by address while dns is off), or say {name}: []"
            yield f"runtime.siteconf.frontier.{name}", message, hint, WARNING


def _is_forward(network: Network, host: str, port: str) -> bool:
    return not is_not_chained(network, host) and f"{host}:{port}" in {found.target for found in network.forwards}


def _proxy_places(runtime: Runtime) -> Iterator[tuple[str, str, str]]:
    """Field, host, port of every web proxy that the runtime block names."""
    if runtime.web_proxies is not None:
        for name, proxy in runtime.web_proxies.named():
            yield (f"runtime.web_proxies.{name}.url", *proxy.url.rpartition("//")[2].rpartition(":")[::2])
    for url in re.split("[;|]", (runtime.cvmfs.proxy or "") if runtime.cvmfs is not None else ""):
        host, _, port = url.rpartition("//")[2].rpartition(":")
        if host:
            yield "runtime.cvmfs.proxy", host, port.rstrip("/")


def _reached(network: Network, field: str, host: str, port: str) -> Iterator[Finding]:
    """Find a web proxy that pilots cannot reach: neither within the site nor among the forwards."""
    if is_not_chained(network, host):
        return
    if not is_numeric(host):
        message = f"the CVMFS client asks for {host} by UDP, past the chain, and gets no answer"
        yield field, message, "give the proxy's address", ERROR
    elif not _is_forward(network, host, port):
        message = f"{host}:{port} is neither in network.workers nor among network.forwards"
        yield field, message, "add a forward, or remove the proxy", ERROR


def _entry(network: Network, entry: Entry, where: str) -> Iterator[Finding]:
    if not network.dns:
        for field, name, value in own_attrs(entry):
            for host in _named_hosts(name, value):
                message = f"{host} {NAMES_OFF}"
                yield f"{where}.{field}.{name}", message, "write addresses, or set network.dns: true", ERROR
    if entry.proxy_url in _NO_PROXY:
        return
    url, field = urlsplit(entry.proxy_url or ""), f"{where}.proxy_url"
    host, port = url.hostname or "", url.port or 80
    if is_not_chained(network, host):
        return
    if not network.dns and not is_numeric(host):
        yield field, f"{host} {NAMES_OFF}", "give its address", ERROR
    elif not _is_forward(network, host, str(port)):
        message = f"{host}:{port} is neither in network.workers nor among network.forwards"
        yield field, message, "add a forward, or remove it", ERROR


def _named_hosts(name: str, value: str) -> Iterator[str]:
    """Hosts that an attribute gives by name: `HOST:PORT`, `HOST:PORT-PORT`, `<HOST:PORT?sock=...>`, a list of them."""
    if name not in _HOST_ATTRS:
        return
    for word in re.split(r"[\s,;]+", value):
        host = word.strip("<>").partition("?")[0].partition(":")[0]
        if _HOST.fullmatch(host) and not is_numeric(host):
            yield host
