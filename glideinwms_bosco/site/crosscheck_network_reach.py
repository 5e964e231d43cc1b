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
from glideinwms_bosco.site.network import HTTP_CONNECT, LOOPBACK, WEB_PROXY_EGRESS, Network, is_numeric
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
# Without a dot it is a number, a word such as None, or a name that only nodes of the site know.
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*(\.[A-Za-z0-9-]+)+\.?")
# Source: HTCondor 23.0 manual, configuration macros: $RANDOM_INTEGER(9620,9720,1), $(NAME).
_MACRO = re.compile(r"\$+[A-Za-z_]*\([^()]*\)")
# Where web servers listen, those of factories and frontends too.
_WEB_PORTS = (80, 8000, 8080)
# Source: IANA Service Name and Port Number Registry; XRootD 5 documentation, xrd.port.
_PORTS = {
    **{"http": "80", "dav": "80", "https": "443", "davs": "443", "root": "1094", "roots": "1094", "xroot": "1094"},
    **{"xroots": "1094", "gsiftp": "2811"},
}
_BY_ITSELF = "None"
_NO_PROXY = (None, "OSG", _BY_ITSELF)
"""Of `proxy_url`: words that name no host. Left out, it is OSG where there is a web proxy of the tunnel."""


def reach_findings(site: SiteDescription, network: Network) -> Iterator[Finding]:
    """Find what pilots and payloads would not reach."""
    yield from _cvmfs_before(site, network)
    yield from _downloads(site, network)
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
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets without an IPv6 address; newer Pythons alone look
        return False
    host, (_, _, stated) = parts.hostname or "", parts.netloc.rpartition("]")[2].partition(":")
    port = stated or _PORTS.get(parts.scheme, "")
    return not host or is_not_chained(network, host) or _is_forward(network, host, port)


def downloads_by_squid(site: SiteDescription, network: Network) -> bool:
    """Tell whether all pilots have a web proxy outside to download by, which needs no forward to the web servers."""
    return network.web_forward is not None and all(entry.proxy_url != _BY_ITSELF for entry in site.entries)


def _downloads(site: SiteDescription, network: Network) -> Iterator[Finding]:
    """Find web servers that the proxy of the tunnel may refuse, where entries download by it without having said so.

    Source: glideinWMS 3.10 creation/web_base/glidein_startup.sh: the proxy is tried on the factory's web server alone,
    and there is no other way for the frontend's once that has passed.
    """
    if all(entry.proxy_url is not None for entry in site.entries):
        return
    field, forward = "network.web_proxy", network.web_forward
    if forward is not None:
        message = (
            f"pilots download by {forward.target}, which has to let them to the web servers of factory and frontend"
        )
        yield field, message, "say proxy_url in defaults: OSG where it does, None where it does not", WARNING
    elif network.web_proxy == WEB_PROXY_EGRESS and network.egress.kind == HTTP_CONNECT:
        names = [found.name for found in network.forwards if found.port in _WEB_PORTS and not found.is_web]
        if names:
            message = (
                f"pilots download by the egress proxy, which by their names does not fetch from {', '.join(names)}"
            )
            hint = "call web servers web or web-..., or say proxy_url in defaults (None: download without it)"
            yield field, message, hint, WARNING


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
    forward = network.web_forward
    if forward is not None and network.web_proxy_is_chained and not is_not_chained(network, forward.host):
        chained.append(forward.target)
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
    for name, urls, without in (
        ("proxies", block.frontier.proxies, "remove them"),
        ("backup_proxies", block.frontier.backup_proxies, "say backup_proxies: []"),
    ):
        lost = [url for url in urls if not url_is_reached(network, url)]
        if lost:
            message = f"not reached from there: {', '.join(lost)}; Frontier clients wait for each in vain"
            if network.dns and any(not {".", "["} & set(url) for url in lost):
                message += ", unless the node resolves it"
            hint = f"add forwards (by address while dns is off), or {without}"
            yield f"runtime.siteconf.frontier.{name}", message, hint, WARNING


def _is_forward(network: Network, host: str, port: str) -> bool:
    targets = {found.target.lower() for found in network.forwards}
    return not is_not_chained(network, host) and f"{host}:{port}".lower() in targets


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
                hint = "write addresses, or set network.dns: true, unless nodes resolve it themselves"
                yield f"{where}.{field}.{name}", message, hint, WARNING
    if entry.proxy_url in _NO_PROXY:
        return
    url, field = urlsplit(entry.proxy_url or ""), f"{where}.proxy_url"
    host, port = url.hostname or "", int(url.netloc.rpartition(":")[2])
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
    for word in re.split(r"[\s,;]+", _MACRO.sub("", value)):
        host = word.strip("<>").partition("?")[0].partition(":")[0]
        if _HOST.fullmatch(host) and not is_numeric(host):
            yield host
