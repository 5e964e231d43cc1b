# SPDX-License-Identifier: Apache-2.0
"""Checks of `runtime.siteconf` that need more than one field; what its files say is checked by the room `siteconf`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from glideinwms_bosco.errors import Problem
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.site.runtime import Runtime
from glideinwms_bosco.site.siteconf_block import SiteconfBlock, VolumeRef

_BESIDE_TREE = frozenset(("site", "subsite", "tree", "prefer_local"))


class _Found(NamedTuple):
    field: str
    message: str
    hint: str
    severity: str = "error"


def check_siteconf(site: SiteDescription) -> Iterator[Problem]:
    """Find what a SITECONF block lacks, and fields of it that work against each other."""
    if site.runtime is None or site.runtime.siteconf is None:
        return
    block = site.runtime.siteconf
    for found in (*_names(block, site), *(_tree(site) if block.tree else _described(block, site.runtime, site))):
        where = f"runtime.siteconf.{found.field}"
        yield Problem(site.file, site.line(where), where, found.message, found.hint, found.severity)


def _names(block: SiteconfBlock, site: SiteDescription) -> Iterator[_Found]:
    if block.site is None and site.cms_site is None:
        yield _Found("site", "missing: the SITECONF is of no CMS site", "set it, or cms_site")
    own = block.site or site.cms_site
    if own in dict(block.siblings):
        yield _Found(f"siblings.{own}", "is the site itself", "its own storage.json is `storage`")


def _tree(site: SiteDescription) -> Iterator[_Found]:
    start = "runtime.siteconf."
    for path in site.lines:
        field = path[len(start) :]
        if path.startswith(start) and field.isidentifier() and field not in _BESIDE_TREE:
            yield _Found(field, "has no effect with tree, which is shipped as it is", "remove one of the two")


def _described(block: SiteconfBlock, runtime: Runtime, site: SiteDescription) -> Iterator[_Found]:
    if not block.stage_out:
        message = "missing: payloads have nowhere to write, and WMCore reads no SITECONF without"
        yield _Found("stage_out", message, "name a volume of a near site, and the site's folder under siblings")
    siblings, own = dict(block.siblings), block.site or site.cms_site
    counts = {"data_access": 0, "stage_out": 0}
    for ref in block.data_refs:
        name = "data_access" if isinstance(ref, VolumeRef) else "stage_out"
        where = f"{name}[{counts[name]}].site"
        counts[name] += 1
        if ref.site is not None and ref.site != own and ref.site not in siblings:
            message = f"{ref.site} is not among the siblings, and readers would look for its storage.json in vain"
            hint = f"add siblings: {{{ref.site}: its folder of a SITECONF, on this host}}"
            yield _Found(where, message, hint)
    used = {ref.site for ref in block.data_refs}
    for sibling in sorted(siblings.keys() - used - {own}):
        yield _Found(f"siblings.{sibling}", "is not referred to", "remove it, or use one of its volumes", "warning")
    if (block.phedex_catalog is not None or block.phedex_rules) and not block.event_data:
        hint = "add event_data, or leave phedex_catalog out: it is then made of the same facts"
        yield _Found("phedex_catalog", "event_data does not say which of its protocols payloads read by", hint)
    yield from _conditions(block, runtime)


def _conditions(block: SiteconfBlock, runtime: Runtime) -> Iterator[_Found]:
    frontier = block.frontier
    if frontier is None:
        return
    if block.local_connect is not None:
        yield _Found("local_connect", "CMSSW refuses it together with frontier", "remove one of the two")
        return
    if frontier.proxies:
        message = "are asked by every payload without a test, and counted only if a site file states what they bear"
        hint = "name them under runtime.web_proxies.proxies instead, with their capacity"
        yield _Found("frontier.proxies", message, hint, "warning")
    if frontier.proxies or frontier.proxy_configs or frontier.failover_to_server:
        return
    if runtime.web_proxies is not None:
        if runtime.web_proxies.direct and not frontier.backup_proxies:
            message = "payloads of a pilot that goes direct get no conditions: no proxy is left, no server allowed"
            yield _Found("frontier", message, "name backup_proxies, or set failover_to_server: true", "warning")
        return
    hint = "add runtime.web_proxies"
    if runtime.cvmfs is not None and runtime.cvmfs.proxy not in (None, "DIRECT"):
        hint = "name the proxy of runtime.cvmfs.proxy under runtime.web_proxies instead, which serves both"
    if not frontier.backup_proxies:
        message = "there is no proxy to ask, and servers may not be asked: payloads get no conditions"
        yield _Found("frontier", message, hint)
    else:
        message = "only backup proxies are asked for conditions; they are shared by all sites"
        yield _Found("frontier", message, hint, "warning")
