# SPDX-License-Identifier: Apache-2.0
"""A SITECONF as frozen, typed objects: what its files say, in their order.

Objects may say what readers refuse (no stage-out, both connects): `check` reports it, so it must be expressible.
`line` is where a thing stands in the file that it was read from (1-based; 0: not from a file). It takes no part in
comparisons: two configurations that mean the same are equal.

Source of the fields: cms-sw/cmssw FWCore/Services/src/SiteLocalConfigService.cc and FWCore/Catalog/src; dmwm/WMCore
src/python/WMCore/Storage/SiteLocalConfig.py, RucioFileCatalog.py, TrivialFileCatalog.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Optional, Union

CONFIG_NAME = "JobConfig/site-local-config.xml"
"""Below the folder of a site or subsite."""
STORAGE_NAME = "storage.json"
"""Below the folder of a site; a subsite has none of its own."""
CATALOG_NAME = "PhEDEx/storage.xml"
"""Below the folder of a site."""
LOCAL_NAME = "local"
"""The link beside the sites' folders that names a node's own."""

Attributes = tuple[tuple[str, str], ...]
"""Of an XML element, in the order of the file."""


@dataclass(frozen=True)
class CatalogRef:
    """A `<catalog>` of `<data-access>`. `site` None: the configuration's own."""

    site: Optional[str]
    volume: str
    protocol: str
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class StageOutMethod:
    """A `<method>` of `<stage-out>`. `command` None: the reader's default, gfal2."""

    site: Optional[str]
    volume: str
    protocol: str
    command: Optional[str] = None
    option: Optional[str] = None
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class LocalStageOut:
    """`<local-stage-out>` or `<fallback-stage-out>`, the old form.

    Attributes:
        catalog_url: `trivialcatalog_file:PATH?protocol=NAME`; only in a `<local-stage-out>`.
        lfn_prefix: what is put before an LFN instead of a catalog; only in a `<fallback-stage-out>`.
    """

    command: Optional[str] = None
    option: Optional[str] = None
    catalog_url: Optional[str] = None
    se_name: Optional[str] = None
    phedex_node: Optional[str] = None
    lfn_prefix: Optional[str] = None
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Frontier:
    """`<frontier-connect>`. Each list keeps its order, which clients try.

    Attributes:
        load_balance: the value of `<load balance=…>`, `proxies`; None: in order.
        failover_to_server: None: not said, and clients then ask the servers directly when no proxy answers.
        prefer_ip_family: the value of `<prefer ipfamily=…>`.
        others: elements that this project has no field for: name, attributes.
    """

    load_balance: Optional[str] = None
    failover_to_server: Optional[bool] = None
    proxies: tuple[str, ...] = ()
    backup_proxies: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    proxy_configs: tuple[str, ...] = ()
    prefer_ip_family: Optional[str] = None
    others: tuple[tuple[str, Attributes], ...] = ()
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class LocalConnect:
    """`<local-connect>`: connect strings for calibrations out of files, instead of Frontier."""

    prefix: str = ""
    suffix: str = ""
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class SourceConfig:
    """`<source-config>`, in the file's own words; None: not said."""

    cache_temp_dir: Optional[str] = None
    cache_min_free: Optional[str] = None
    cache_hint: Optional[str] = None
    clone_cache_hint: Optional[str] = None
    read_hint: Optional[str] = None
    ttree_cache_size: Optional[str] = None
    timeout_in_seconds: Optional[str] = None
    native_protocols: tuple[str, ...] = ()
    statistics_destination: Optional[str] = None
    statistics_info: Optional[str] = None
    prefetching: Optional[str] = None
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class SiteLocalConfig:
    """One site-local-config.xml.

    Attributes:
        site: name of the site; empty when the file has none.
        subsite: name of the subsite; the file then lies in SITE/SUBSITE/JobConfig.
        event_data: URLs of the old catalogs.
        data_access: new catalogs, in the order in which they are tried.
        stage_out: in the order in which they are tried.
        frontier: None: the file has no `<frontier-connect>`.
        lines: of what is plain text above: `site`, `subsite`, `event_data[0]`, `data_access`, `stage_out`,
            `calib_data`; only what stands in the file.
    """

    site: str
    subsite: Optional[str] = None
    event_data: tuple[str, ...] = ()
    data_access: tuple[CatalogRef, ...] = ()
    local_stage_out: Optional[LocalStageOut] = None
    fallback_stage_outs: tuple[LocalStageOut, ...] = ()
    stage_out: tuple[StageOutMethod, ...] = ()
    frontier: Optional[Frontier] = None
    local_connect: Optional[LocalConnect] = None
    source_config: Optional[SourceConfig] = None
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class StorageRule:
    """A rule of storage.json. `chain`: the protocol whose rules are applied to the LFN first."""

    lfn: str
    pfn: str
    chain: Optional[str] = None
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class StorageProtocol:
    """How a volume is reached: `prefix` (put before the LFN) or `rules` (the first that matches)."""

    protocol: str
    access: Optional[str] = None
    prefix: Optional[str] = None
    rules: tuple[StorageRule, ...] = ()
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class StorageItem:
    """One item of a storage.json: a volume of a site.

    Attributes:
        rse: the Rucio storage element; None: none.
        rse_missing: the file does not even say null; WMCore then fails.
    """

    site: str
    volume: str
    type: Optional[str] = None
    rse: Optional[str] = None
    fts: tuple[str, ...] = ()
    protocols: tuple[StorageProtocol, ...] = ()
    rse_missing: bool = field(default=False, compare=False)
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class CatalogRule:
    """A rule of PhEDEx/storage.xml. `kind`: `lfn-to-pfn` or `pfn-to-lfn`; `destination_match` is not read any more."""

    kind: str
    protocol: str
    path_match: str
    result: str
    chain: Optional[str] = None
    destination_match: Optional[str] = None
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Siteconf:
    """What one site's part of a SITECONF says, with the siblings that it refers to.

    Attributes:
        config: of the site, or of its subsite.
        storage: the site's own storage.json.
        siblings: name of another site -> its storage.json.
        phedex_catalog: the site's own PhEDEx/storage.xml; None: it has none.
    """

    config: SiteLocalConfig
    storage: tuple[StorageItem, ...] = ()
    siblings: Mapping[str, tuple[StorageItem, ...]] = field(default_factory=lambda: MappingProxyType({}))
    phedex_catalog: Optional[tuple[CatalogRule, ...]] = None

    def storage_of(self, site: Optional[str]) -> Optional[tuple[StorageItem, ...]]:
        """The storage.json that a catalog or method with this `site` is looked up in; None: it is not there."""
        if site is None or site == "" or site == self.config.site:
            return self.storage
        return self.siblings.get(site)


@dataclass(frozen=True)
class Link:
    """A symbolic link of a tree; `target` from the link's folder."""

    target: str


TreeFile = Union[bytes, Link]
