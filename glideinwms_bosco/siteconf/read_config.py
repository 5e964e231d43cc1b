# SPDX-License-Identifier: Apache-2.0
"""Read a site-local-config.xml into the model, as CMSSW reads it: of elements that stand twice the first counts.

Source: cms-sw/cmssw FWCore/Services/src/SiteLocalConfigService.cc (parse); for the old stage-outs, which CMSSW does
not read, dmwm/WMCore src/python/WMCore/Storage/SiteLocalConfig.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from lxml import etree

from glideinwms_bosco.siteconf.model import (
    CatalogRef,
    Frontier,
    LocalConnect,
    LocalStageOut,
    SiteLocalConfig,
    SourceConfig,
    StageOutMethod,
)
from glideinwms_bosco.siteconf.text_file import refuse
from glideinwms_bosco.siteconf.xml_file import XmlFile, attribute, children, first, line_of, parse_xml, read_xml

ROOT_TAG = "site-local-config"

# Field -> element and its attribute.
SOURCE_CONFIG_VALUES = {
    "cache_temp_dir": ("cache-temp-dir", "name"),
    "cache_min_free": ("cache-min-free", "value"),
    "cache_hint": ("cache-hint", "value"),
    "clone_cache_hint": ("clone-cache-hint", "value"),
    "read_hint": ("read-hint", "value"),
    "ttree_cache_size": ("ttree-cache-size", "value"),
    "timeout_in_seconds": ("timeout-in-seconds", "value"),
    "prefetching": ("prefetching", "value"),
}
# Field -> element of `<frontier-connect>`; each has its URL in `url`.
FRONTIER_LISTS = {
    "proxy_configs": "proxyconfig",
    "proxies": "proxy",
    "backup_proxies": "backupproxy",
    "servers": "server",
}
# Any other value means yes. Source: fermitools/frontier client/fn-config.c, keyword failovertoserver.
NO = "no"


def read_config(path: Path) -> SiteLocalConfig:
    """Read a file.

    Raises:
        SiteconfFileError: it cannot be read, or has no `<site>`, or several.
    """
    return config_of(read_xml(path))


def parse_config(text: str, file: str) -> SiteLocalConfig:
    """Read a file's text.

    Raises:
        SiteconfFileError: as `read_config`.
    """
    return config_of(parse_xml(text, file))


def config_of(source: XmlFile) -> SiteLocalConfig:
    """Read a parsed file.

    Raises:
        SiteconfFileError: it has no `<site>`, or several.
    """
    site = _site(source)
    subsite, event_data, calib_data = (first(site, name) for name in ("subsite", "event-data", "calib-data"))
    data_access, stage_out = first(site, "data-access"), first(site, "stage-out")
    catalogs = tuple(children(event_data, "catalog"))
    lines = {"site": line_of(site)}
    for name, element in (("subsite", subsite), ("data_access", data_access), ("stage_out", stage_out)):
        if element is not None:
            lines[name] = line_of(element)
    if calib_data is not None:
        lines["calib_data"] = line_of(calib_data)
    lines.update({f"event_data[{i}]": line_of(catalog) for i, catalog in enumerate(catalogs)})
    return SiteLocalConfig(
        site=attribute(site, "name") or "",
        subsite=attribute(subsite, "name") or None,
        event_data=tuple(attribute(catalog, "url") or "" for catalog in catalogs),
        data_access=tuple(_catalog(element) for element in children(data_access, "catalog")),
        # WMCore takes every child, whatever its name.
        stage_out=tuple(_method(element) for element in children(stage_out)),
        local_stage_out=_old(first(site, "local-stage-out")),
        fallback_stage_outs=tuple(
            old for old in (_old(element) for element in children(site, "fallback-stage-out")) if old is not None
        ),
        frontier=_frontier(first(calib_data, "frontier-connect")),
        local_connect=_local_connect(first(calib_data, "local-connect")),
        source_config=_source_config(first(site, "source-config")),
        lines=lines,
    )


def _site(source: XmlFile) -> etree._Element:
    root = source.root
    if root.tag != ROOT_TAG:
        refuse(source.file, line_of(root), f"its root element is <{root.tag}>", f"WMCore reads <{ROOT_TAG}> only")
    sites = tuple(children(root, "site"))
    if not sites:
        refuse(source.file, line_of(root), "has no <site>", "CMSSW and WMCore read only what stands in one")
    if len(sites) > 1:
        hint = "readers mix them into one; keep the one of this folder"
        refuse(source.file, line_of(sites[1]), "has a second <site>", hint)
    return sites[0]


def _catalog(element: etree._Element) -> CatalogRef:
    return CatalogRef(
        site=attribute(element, "site"),
        volume=attribute(element, "volume") or "",
        protocol=attribute(element, "protocol") or "",
        line=line_of(element),
    )


def _method(element: etree._Element) -> StageOutMethod:
    return StageOutMethod(
        site=attribute(element, "site"),
        volume=attribute(element, "volume") or "",
        protocol=attribute(element, "protocol") or "",
        command=attribute(element, "command"),
        option=attribute(element, "option"),
        line=line_of(element),
    )


def _old(element: Optional[etree._Element]) -> Optional[LocalStageOut]:
    if element is None:
        return None
    return LocalStageOut(
        command=attribute(first(element, "command"), "value"),
        option=attribute(first(element, "option"), "value"),
        catalog_url=attribute(first(element, "catalog"), "url"),
        se_name=attribute(first(element, "se-name"), "value"),
        phedex_node=attribute(first(element, "phedex-node"), "value"),
        lfn_prefix=attribute(first(element, "lfn-prefix"), "value"),
        line=line_of(element),
    )


def _frontier(element: Optional[etree._Element]) -> Optional[Frontier]:
    if element is None:
        return None
    failover = attribute(first(element, "failover"), "toserver")
    known = {*FRONTIER_LISTS.values(), "load", "failover", "prefer"}
    return Frontier(
        load_balance=attribute(first(element, "load"), "balance"),
        failover_to_server=None if failover is None else failover != NO,
        prefer_ip_family=attribute(first(element, "prefer"), "ipfamily"),
        others=tuple(
            (str(child.tag), tuple((str(name), str(value)) for name, value in child.attrib.items()))
            for child in children(element)
            if child.tag not in known
        ),
        line=line_of(element),
        **{
            field: tuple(attribute(child, "url") or "" for child in children(element, name))
            for field, name in FRONTIER_LISTS.items()
        },
    )


def _local_connect(element: Optional[etree._Element]) -> Optional[LocalConnect]:
    if element is None:
        return None
    connect = first(element, "connectString")
    return LocalConnect(attribute(connect, "prefix") or "", attribute(connect, "suffix") or "", line_of(element))


def _source_config(element: Optional[etree._Element]) -> Optional[SourceConfig]:
    if element is None:
        return None
    statistics = first(element, "statistics-destination")
    return SourceConfig(
        native_protocols=tuple(
            attribute(child, "prefix") or "" for child in children(first(element, "native-protocols"))
        ),
        statistics_destination=attribute(statistics, "endpoint") or attribute(statistics, "name"),
        statistics_info=attribute(statistics, "info"),
        line=line_of(element),
        **{field: attribute(first(element, name), key) for field, (name, key) in SOURCE_CONFIG_VALUES.items()},
    )
