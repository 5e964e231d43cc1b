# SPDX-License-Identifier: Apache-2.0
"""`runtime.siteconf` of a site file as frozen, typed objects: where payloads read, write and ask for conditions.

Paths are read, and the SITECONF made, by the room `siteconf`. Of all this only the site's and the subsite's names reach
a node as attributes; the rest travels in the tree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional, Union

from glideinwms_bosco.errors import SiteError

REMOTE_READ = "remote-read"
PRESETS = (REMOTE_READ,)

# Source: the CMS production launchpads and backup proxies that sites' own SITECONFs name (CERN's and HIP's, 2026).
DEFAULT_FRONTIER_SERVERS = (
    "http://cmsfrontier.cern.ch:8000/FrontierInt",
    *(f"http://cmsfrontier{i}.cern.ch:8000/FrontierInt" for i in range(1, 5)),
)
DEFAULT_BACKUP_PROXIES = ("http://cmsbpfrontier.cern.ch:3128", "http://cmsbproxy.fnal.gov:3128")

_SITE_NAME = re.compile(r"(?!local$)[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# Folders that a site's own folder has for other things.
_SUBSITE_NAME = re.compile(r"(?!(?:JobConfig|PhEDEx|GlideinConfig)$)[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def check_site_name(name: Optional[str]) -> None:
    """Refuse what is no folder beside `local` in a SITECONF.

    Raises:
        SiteError: it is none.
    """
    if name is not None and not _SITE_NAME.fullmatch(name):
        raise SiteError(f"{name[:80]!r} is no name of a CMS site", "it is a folder of SITECONF, such as T3_US_Example")


@dataclass(frozen=True)
class VolumeRef:
    """A volume and how it is reached. `site` None: the site's own, described in its own `storage`."""

    volume: str
    protocol: str
    site: Optional[str] = None


@dataclass(frozen=True)
class StageOutRef:
    """Where payloads write. `command` None: the readers' default, gfal2."""

    volume: str
    protocol: str
    site: Optional[str] = None
    command: Optional[str] = None
    option: Optional[str] = None


@dataclass(frozen=True)
class OldStageOut:
    """`<local-stage-out>` or `<fallback-stage-out>` where it shall not follow from `stage_out`."""

    command: Optional[str] = None
    option: Optional[str] = None
    catalog: Optional[str] = None
    se_name: Optional[str] = None
    phedex_node: Optional[str] = None
    lfn_prefix: Optional[str] = None


@dataclass(frozen=True)
class FrontierBlock:
    """The Frontier connection. The proxies that pilots find come before `proxies` and `backup_proxies`."""

    servers: tuple[str, ...] = DEFAULT_FRONTIER_SERVERS
    proxies: tuple[str, ...] = ()
    backup_proxies: tuple[str, ...] = DEFAULT_BACKUP_PROXIES
    proxy_configs: tuple[str, ...] = ()
    failover_to_server: bool = False
    load_balance: Optional[str] = None
    prefer_ip_family: Optional[int] = None


@dataclass(frozen=True)
class ConnectBlock:
    """Conditions out of files instead of Frontier."""

    prefix: str = ""
    suffix: str = ""


@dataclass(frozen=True)
class OldRule:
    """A rule of PhEDEx/storage.xml."""

    protocol: str
    match: str
    result: str
    chain: Optional[str] = None
    kind: str = "lfn-to-pfn"


@dataclass(frozen=True)
class SiteconfBlock:
    """All of it.

    Attributes:
        site: None: the site file's `cms_site`.
        data_access: empty: those of the preset.
        event_data: empty: they follow from `data_access`.
        local_stage_out, fallback_stage_out: None, empty: they follow from `stage_out`.
        frontier: None only with `local_connect`.
        source_config: name as in the site file -> value as in XML, sorted by name.
        storage: path of a storage.json, or None.
        storage_items: own items as the text of a storage.json, or None.
        phedex_catalog: path of a storage.xml, or None.
        phedex_rules: in the place of `phedex_catalog`; both empty: they follow from `data_access` and `stage_out`.
        siblings: (name, folder on the factory), sorted.
        tree: folder on the factory that is shipped in the place of all that is described here.
        prefer_local: a healthy SITECONF of the node wins over this one.
    """

    site: Optional[str] = None
    subsite: Optional[str] = None
    preset: str = REMOTE_READ
    data_access: tuple[VolumeRef, ...] = ()
    stage_out: tuple[StageOutRef, ...] = ()
    local_stage_out: Optional[OldStageOut] = None
    fallback_stage_out: tuple[OldStageOut, ...] = ()
    event_data: tuple[str, ...] = ()
    frontier: Optional[FrontierBlock] = None
    local_connect: Optional[ConnectBlock] = None
    source_config: tuple[tuple[str, Union[str, tuple[str, ...]]], ...] = ()
    storage: Optional[str] = None
    storage_items: Optional[str] = None
    phedex_catalog: Optional[str] = None
    phedex_rules: tuple[OldRule, ...] = ()
    siblings: tuple[tuple[str, str], ...] = ()
    tree: Optional[str] = None
    prefer_local: bool = False

    def __post_init__(self) -> None:
        for name in (self.site, *(name for name, _folder in self.siblings)):
            check_site_name(name)
        if self.subsite is not None and not _SUBSITE_NAME.fullmatch(self.subsite):
            raise SiteError(f"{self.subsite[:80]!r} is no name of a subsite", "it is a folder of the site's own folder")

    @property
    def data_refs(self) -> tuple[Union[VolumeRef, StageOutRef], ...]:
        """Everything that names a volume: `data_access`, then `stage_out`."""
        return (*self.data_access, *self.stage_out)

    def frontier_servers(self) -> tuple[str, ...]:
        """Servers that payloads would ask by way of a proxy; empty with `local_connect` or `tree`."""
        return self.frontier.servers if self.frontier is not None and self.tree is None else ()


def siteconf_of(data: Mapping[str, Any]) -> SiteconfBlock:
    """Build it from a block that the schema has accepted.

    Raises:
        SiteError: a name is no folder name.
    """
    plain = {name: data[name] for name in ("site", "subsite", "preset", "tree", "prefer_local") if name in data}
    storage, catalog = data.get("storage"), data.get("phedex_catalog")
    local_connect = data.get("local_connect")
    # With both, each stays what the file says, and the cross-check refuses it.
    frontier = data.get("frontier", {} if local_connect is None else None)
    return SiteconfBlock(
        data_access=tuple(VolumeRef(**item) for item in data.get("data_access", ())),
        stage_out=tuple(StageOutRef(**item) for item in data.get("stage_out", ())),
        local_stage_out=OldStageOut(**data["local_stage_out"]) if "local_stage_out" in data else None,
        fallback_stage_out=tuple(OldStageOut(**item) for item in data.get("fallback_stage_out", ())),
        event_data=tuple(data.get("event_data", ())),
        frontier=None if frontier is None else _frontier(frontier),
        local_connect=None if local_connect is None else ConnectBlock(**local_connect),
        source_config=tuple(sorted((name, _xml_value(value)) for name, value in data.get("source_config", {}).items())),
        storage=storage if isinstance(storage, str) else None,
        storage_items=json.dumps(storage) if isinstance(storage, list) else None,
        phedex_catalog=catalog if isinstance(catalog, str) else None,
        phedex_rules=tuple(OldRule(**item) for item in catalog) if isinstance(catalog, list) else (),
        siblings=tuple(sorted(data.get("siblings", {}).items())),
        **plain,
    )


def _frontier(data: Mapping[str, Any]) -> FrontierBlock:
    lists: dict[str, Any] = {name: tuple(value) for name, value in data.items() if isinstance(value, list)}
    return FrontierBlock(**{**data, **lists})


def _xml_value(value: Any) -> Union[str, tuple[str, ...]]:
    if isinstance(value, list):
        return tuple(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
