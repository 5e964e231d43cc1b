# SPDX-License-Identifier: Apache-2.0
"""Make a SITECONF out of a site file's block: what it leaves out follows from what it says. Pure.

Old elements and new ones come from the same facts. `data_access` and `stage_out` name volumes of storage.json files;
the event-data catalogs, the old stage-outs and PhEDEx/storage.xml say the same in their form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Optional, Union

from glideinwms_bosco.errors import SiteconfError
from glideinwms_bosco.site.siteconf_block import OldStageOut, SiteconfBlock, StageOutRef, VolumeRef
from glideinwms_bosco.siteconf.model import (
    CATALOG_NAME,
    CatalogRef,
    CatalogRule,
    Frontier,
    LocalConnect,
    LocalStageOut,
    Siteconf,
    SiteLocalConfig,
    SourceConfig,
    StageOutMethod,
    StorageItem,
    StorageProtocol,
)
from glideinwms_bosco.siteconf.resolve import MAX_CHAIN
from glideinwms_bosco.siteconf.tfc import LFN_TO_PFN, catalog_url

NODE_TOP = "/etc/cvmfs/SITECONF"
"""Where old readers find the tree: they need a path that is the same on every node, and containers have this one."""
DEFAULT_COMMAND = "gfal2"
"""Of a stage-out; WMCore's own default, which the old form has to spell."""

# The redirectors of the CMS federations. Source: storage.json of T1_US_FNAL and T1_IT_CNAF; CERN's has the global one.
# As volumes of the site itself they need no sibling's file, which a tree outside CVMFS often lacks (cms-sw/cmssw
# issue 42801).
_AMERICAN = ("American_Federation", "root://cmsxrootd.fnal.gov/")
_EURASIAN = ("Eurasian_Federation", "root://xrootd-cms.infn.it/")
_GLOBAL = ("Global_Federation", "root://cms-xrd-global.cern.ch/")
# Names of CMS sites are TIER_COUNTRY_NAME.
_IN_AMERICA = re.compile(r"T[0-9]_(AR|BR|CA|CL|CO|CR|CU|EC|MX|PE|PR|US|UY|VE)_")
_XROOTD = "XRootD"

_HOST = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([A-Za-z0-9][A-Za-z0-9.-]*)")
_Triple = tuple[str, str, str]
"""Site, volume, protocol."""


@dataclass(frozen=True)
class Sources:
    """What the files say that the block names.

    Attributes:
        storage: the site's own volumes.
        siblings: name -> the volumes of its storage.json.
        catalog: None: it is made.
    """

    storage: tuple[StorageItem, ...] = ()
    siblings: Mapping[str, tuple[StorageItem, ...]] = field(default_factory=lambda: MappingProxyType({}))
    catalog: Optional[tuple[CatalogRule, ...]] = None


def make_siteconf(block: SiteconfBlock, sources: Sources, site: str) -> Siteconf:
    """Make the SITECONF of a site.

    Args:
        site: name of the CMS site, when the block has none.

    Raises:
        SiteconfError: protocols are chained too far to be said in the old form.
    """
    name = block.site or site
    storage, refs = _with_preset(block, sources.storage, name)
    # Without what nothing refers to: a sibling's file is the node's copy of somebody else's truth.
    used = {ref.site for ref in refs} | {ref.site for ref in block.stage_out}
    siblings = {other: items for other, items in sorted(sources.siblings.items()) if other in used}
    old = _OldForm(name, {**siblings, name: storage})
    reads = [old.url(ref) for ref in refs]
    writes = [old.url(ref) for ref in block.stage_out]
    config = SiteLocalConfig(
        site=name,
        subsite=block.subsite,
        event_data=block.event_data or tuple(reads),
        data_access=tuple(CatalogRef(ref.site, ref.volume, ref.protocol) for ref in refs),
        local_stage_out=_given(block.local_stage_out)
        or old.stage_out(block.stage_out, 0, writes[0] if writes and sources.catalog is None else None),
        fallback_stage_outs=tuple(_old_stage_out(given) for given in block.fallback_stage_out)
        or old.fallbacks(block.stage_out),
        stage_out=tuple(
            StageOutMethod(ref.site, ref.volume, ref.protocol, ref.command, ref.option) for ref in block.stage_out
        ),
        frontier=_frontier(block),
        local_connect=None
        if block.local_connect is None
        else LocalConnect(block.local_connect.prefix, block.local_connect.suffix),
        source_config=_source_config(block),
    )
    return Siteconf(config, storage, siblings, old.catalog() if sources.catalog is None else sources.catalog)


def unresolved(siteconf: Siteconf) -> Iterator[tuple[str, str]]:
    """Find volumes and protocols that no storage.json has: field below `runtime.siteconf`, what is wrong."""
    config = siteconf.config
    rows: list[tuple[str, tuple[Any, ...]]] = [("data_access", config.data_access), ("stage_out", config.stage_out)]
    for name, refs in rows:
        for i, ref in enumerate(refs):
            items = siteconf.storage_of(ref.site)
            where = f"the storage.json of {ref.site or config.site}"
            item = _item(items or (), ref.site or config.site, ref.volume)
            if items is None:
                yield f"{name}[{i}].site", f"{where} is not brought along: no folder of it is named under siblings"
            elif item is None:
                known = ", ".join(sorted({item.volume for item in items})) or "none"
                yield f"{name}[{i}].volume", f"{where} has no volume {ref.volume}; it has: {known}"
            elif all(protocol.protocol != ref.protocol for protocol in item.protocols):
                known = ", ".join(sorted({protocol.protocol for protocol in item.protocols})) or "none"
                yield (
                    f"{name}[{i}].protocol",
                    f"{where} has no protocol {ref.protocol} for {ref.volume}; it has: {known}",
                )


def _with_preset(
    block: SiteconfBlock, storage: tuple[StorageItem, ...], site: str
) -> tuple[tuple[StorageItem, ...], tuple[VolumeRef, ...]]:
    """The own volumes and the catalogs, with those of the preset where the block names no catalogs."""
    if block.data_access:
        return storage, tuple(_own_left_out(ref, site) for ref in block.data_access)
    near = (_AMERICAN, _EURASIAN) if _IN_AMERICA.match(site) else (_EURASIAN, _AMERICAN)
    known = {item.volume for item in storage if item.site == site}
    added = tuple(
        StorageItem(
            site=site,
            volume=volume,
            type="DISK",
            protocols=(StorageProtocol(_XROOTD, "global-ro", prefix),),
        )
        for volume, prefix in (*near, _GLOBAL)
        if volume not in known
    )
    return (*storage, *added), tuple(VolumeRef(volume, _XROOTD) for volume, _prefix in (*near, _GLOBAL))


def _own_left_out(ref: VolumeRef, site: str) -> VolumeRef:
    return VolumeRef(ref.volume, ref.protocol) if ref.site == site else ref


def _item(items: tuple[StorageItem, ...], site: str, volume: str) -> Optional[StorageItem]:
    return next((item for item in items if (item.site, item.volume) == (site, volume)), None)


class _OldForm:
    """Says volumes and protocols as the old elements do, and collects the catalog that they need.

    Args:
        site: name of the own site.
        storage: name of a site -> its volumes.
    """

    def __init__(self, site: str, storage: Mapping[str, tuple[StorageItem, ...]]) -> None:
        self._site = site
        self._storage = storage
        self._names: dict[_Triple, str] = {}
        self._rules: dict[_Triple, tuple[CatalogRule, ...]] = {}

    def url(self, ref: Union[VolumeRef, StageOutRef]) -> str:
        """The URL of a volume in the catalog."""
        name = self._add((ref.site or self._site, ref.volume, ref.protocol))
        return catalog_url(f"{NODE_TOP}/{self._site}/{CATALOG_NAME}", name)

    def catalog(self) -> tuple[CatalogRule, ...]:
        """The rules of everything that `url` was asked for, by name of protocol."""
        return tuple(rule for triple in sorted(self._rules) for rule in self._rules[triple])

    def stage_out(self, refs: tuple[StageOutRef, ...], index: int, url: Optional[str]) -> Optional[LocalStageOut]:
        """The old form of one way out; None when there are not so many."""
        if index >= len(refs):
            return None
        ref = refs[index]
        item, protocols = self._found((ref.site or self._site, ref.volume, ref.protocol))
        host = next((match[1] for match in map(_HOST.match, _results(protocols)) if match), None)
        return LocalStageOut(
            command=ref.command or DEFAULT_COMMAND,
            option=ref.option,
            catalog_url=url,
            se_name=host,
            phedex_node=(item.rse if item is not None else None) or ref.site or self._site,
        )

    def fallbacks(self, refs: tuple[StageOutRef, ...]) -> tuple[LocalStageOut, ...]:
        """The old form of the second way out: WMCore keeps one. It has to be a plain prefix."""
        old = self.stage_out(refs, 1, None)
        if old is None:
            return ()
        _item, protocols = self._found((refs[1].site or self._site, refs[1].volume, refs[1].protocol))
        prefix = next((protocol.prefix for protocol in protocols if protocol.prefix), None)
        if prefix is None:
            return ()
        return (LocalStageOut(old.command, old.option, None, old.se_name, old.phedex_node, prefix),)

    def _found(self, triple: _Triple) -> tuple[Optional[StorageItem], tuple[StorageProtocol, ...]]:
        site, volume, protocol = triple
        item = _item(self._storage.get(site, ()), site, volume)
        if item is None:
            return None, ()
        return item, tuple(found for found in item.protocols if found.protocol == protocol)

    def _add(self, triple: _Triple, depth: int = 0) -> str:
        """Name a protocol in the catalog and take its rules, with those of protocols that it is chained to.

        Readers, too, go down a chain by calling themselves, and crash on a long one.
        """
        if triple in self._names:
            return self._names[triple]
        site, volume, protocol = triple
        if depth > MAX_CHAIN:
            message = f"the storage.json of {site}: chains of {volume} are longer than {MAX_CHAIN}"
            raise SiteconfError(message, "shorten them: production sites have chains of up to 2")
        parts = (volume, protocol) if site == self._site else triple
        # What separates a URL's parts has no place in a name.
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", ".".join(parts))
        while name in self._names.values():
            name += "_"
        self._names[triple] = name
        _item, protocols = self._found(triple)
        rules: list[CatalogRule] = []
        for found in protocols:
            if found.prefix:
                rules.append(CatalogRule(LFN_TO_PFN, name, "/+(.*)", f"{found.prefix}/$1"))
            else:
                rules += [
                    CatalogRule(
                        LFN_TO_PFN,
                        name,
                        rule.lfn,
                        rule.pfn,
                        self._add((site, volume, rule.chain), depth + 1) if rule.chain else None,
                    )
                    for rule in found.rules
                ]
        self._rules[triple] = tuple(rules)
        return name


def _results(protocols: tuple[StorageProtocol, ...]) -> Iterator[str]:
    for protocol in protocols:
        if protocol.prefix:
            yield protocol.prefix
        yield from (rule.pfn for rule in protocol.rules)


def _given(old: Optional[OldStageOut]) -> Optional[LocalStageOut]:
    return None if old is None else _old_stage_out(old)


def _old_stage_out(old: OldStageOut) -> LocalStageOut:
    return LocalStageOut(old.command, old.option, old.catalog, old.se_name, old.phedex_node, old.lfn_prefix)


def _frontier(block: SiteconfBlock) -> Optional[Frontier]:
    given = block.frontier
    if given is None:
        return None
    return Frontier(
        load_balance=given.load_balance,
        failover_to_server=given.failover_to_server,
        proxies=given.proxies,
        backup_proxies=given.backup_proxies,
        servers=given.servers,
        proxy_configs=given.proxy_configs,
        prefer_ip_family=None if given.prefer_ip_family is None else str(given.prefer_ip_family),
    )


def _source_config(block: SiteconfBlock) -> Optional[SourceConfig]:
    values: dict[str, Any] = dict(block.source_config)
    return SourceConfig(**values) if values else None
