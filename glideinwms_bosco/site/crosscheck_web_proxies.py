# SPDX-License-Identifier: Apache-2.0
"""Checks of the `runtime.web_proxies` block of one site; what several ask of one proxy is in `webproxy/budget.py`."""

from __future__ import annotations

from collections.abc import Iterator

from glideinwms_bosco.errors import Problem, SiteError
from glideinwms_bosco.json_file import dotted
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.site.web_proxies import WebProxies, normalised_url
from glideinwms_bosco.site.yaml_source import YamlSource

Finding = tuple[str, str, str, str]
"""Field below `runtime`, message, hint, severity."""


def web_proxy_problems(source: YamlSource) -> list[Problem]:
    """Find URLs with brackets that hold no IPv6 address, which a pattern cannot tell; the schema is content already."""
    problems = []
    block = source.data.get("runtime", {}).get("web_proxies", {})
    for name in ("proxies", "backup"):
        for i, item in enumerate(block.get(name, ())):
            where = ("runtime", "web_proxies", name, i, "url")
            try:
                normalised_url(item["url"])
            except SiteError as err:
                problems.append(Problem(source.file, source.line(where), dotted(where), err.message, err.hint))
    return problems


def web_proxy_findings(site: SiteDescription) -> Iterator[Finding]:
    """Find what the block lacks, says twice, or says in vain."""
    if site.runtime is None or site.runtime.web_proxies is None:
        return
    proxies = site.runtime.web_proxies
    if site.runtime.cvmfs is not None and site.runtime.cvmfs.proxy is not None:
        message = "runtime.cvmfs.proxy fixes the proxies of CVMFS, so the tested ones would serve Frontier alone"
        yield "web_proxies", message, "remove one of the two", "error"
    by_egress = site.network is not None and site.network.web_proxy is not None
    if not (proxies.proxies or proxies.backup or proxies.discover or by_egress):
        message = "names no proxy, and none is looked for"
        hint = "add proxies, backup or discover"
        yield "web_proxies", message, hint, "warning" if proxies.direct else "error"
    if proxies.test_cvmfs is None and proxies.test_frontier is None:
        yield "web_proxies.test", "tests neither CVMFS nor Frontier, so any proxy would pass", "add a test", "error"
    yield from _twice(proxies, site)
    yield from _in_vain(proxies, site)


def _twice(proxies: WebProxies, site: SiteDescription) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for field, proxy in proxies.named():
        if proxy.url in first:
            line = site.line(f"runtime.web_proxies.{first[proxy.url]}")
            yield f"web_proxies.{field}", f"{proxy.url} stands twice (first on line {line})", "keep one", "error"
        first.setdefault(proxy.url, field)


def _in_vain(proxies: WebProxies, site: SiteDescription) -> Iterator[Finding]:
    for name, needs in (("pac_urls", "pac"), ("wpad_urls", "wpad")):
        if f"runtime.web_proxies.{name}" in site.lines and needs not in proxies.discover:
            yield f"web_proxies.{name}", f"has no effect: {needs} is not in discover", "add or remove it", "warning"
    if "runtime.web_proxies.max_jobs" in site.lines and not proxies.discover:
        message = "has no effect: it limits sites that have pilots discover proxies"
        yield "web_proxies.max_jobs", message, "remove it: each proxy's capacity limits this one", "warning"
