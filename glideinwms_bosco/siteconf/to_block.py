# SPDX-License-Identifier: Apache-2.0
"""Turn a SITECONF that was read into the `runtime.siteconf` block of a site file, which renders to the same meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.errors import BoscoError, SiteconfError
from glideinwms_bosco.json_file import dotted
from glideinwms_bosco.schema_words import Schema
from glideinwms_bosco.site.schema import site_schema
from glideinwms_bosco.site.siteconf_block import siteconf_of
from glideinwms_bosco.siteconf.from_tree import Tree
from glideinwms_bosco.siteconf.model import (
    CatalogRule,
    Frontier,
    LocalStageOut,
    Siteconf,
    SiteLocalConfig,
    SourceConfig,
    StorageItem,
    StorageProtocol,
)
from glideinwms_bosco.siteconf.presets import Sources, make_siteconf
from glideinwms_bosco.siteconf.tfc import LFN_TO_PFN

_OLD_FIELDS = {"catalog_url": "catalog"}
_NUMBERS = frozenset(("cache_min_free", "ttree_cache_size", "timeout_in_seconds"))
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True)
class Block:
    """What an import gives.

    Attributes:
        data: the block as plain values, in the order of the documentation.
        left: what it cannot say, or says differently: one sentence each.
    """

    data: Mapping[str, Any]
    left: tuple[str, ...]


def to_block(tree: Tree) -> Block:
    """Make the block.

    Raises:
        SiteconfError: there is no site-local-config.xml to import, or its site has no name.
    """
    if not tree.has_config or not tree.siteconf.config.site:
        said = next((f"{found.file}: {found.message}" for found in tree.findings), f"{tree.config_file}: has no site")
        raise SiteconfError(said, "an import needs a site-local-config.xml; `gwms-bosco siteconf check` says more")
    siteconf, left = tree.siteconf, []
    config = siteconf.config
    data: dict[str, Any] = {
        "site": config.site,
        "subsite": config.subsite,
        "data_access": [_without_none(vars(ref)) for ref in config.data_access],
        "stage_out": [_without_none(vars(method)) for method in config.stage_out],
        "local_stage_out": None if config.local_stage_out is None else _old(config.local_stage_out),
        "fallback_stage_out": [_old(old) for old in config.fallback_stage_outs],
        "event_data": list(config.event_data),
        "frontier": None if config.frontier is None else _frontier(config.frontier),
        "local_connect": None if config.local_connect is None else _local_connect(config),
        "source_config": None if config.source_config is None else _source_config(config.source_config),
        "storage": [_item(item) for item in siteconf.storage],
        "phedex_catalog": [_rule(rule) for rule in siteconf.phedex_catalog or ()],
        "siblings": {site: str(Path(tree.storage_files[site]).parent) for site in sorted(siteconf.siblings)},
    }
    block = {name: value for name, value in data.items() if value is not None and value not in ([], {}, "")}
    if config.local_connect is None and config.frontier is None:
        left.append("there is neither <frontier-connect> nor <local-connect>; the block's default is Frontier")
    left += _not_said(siteconf)
    if not config.stage_out:
        left.append("stage_out: there is none, and the block needs one")
    left += _refused(block)
    left += _different(siteconf, block)
    return Block(block, tuple(left))


def same_meaning(siteconf: Siteconf) -> Siteconf:
    """The SITECONF with what means the same written the same way, to be compared with what a block renders to."""
    config, frontier = siteconf.config, siteconf.config.frontier
    if frontier is not None:
        # Clients ask the servers where nothing forbids it.
        failover = frontier.failover_to_server is not False
        frontier = replace(frontier, failover_to_server=failover, others=())
    catalog = siteconf.phedex_catalog
    if catalog is not None:
        catalog = tuple(replace(rule, destination_match=None) for rule in catalog)
    return replace(siteconf, config=replace(config, frontier=frontier), phedex_catalog=catalog)


def _different(siteconf: Siteconf, block: Mapping[str, Any]) -> list[str]:
    """Render the block, and compare."""
    wanted = same_meaning(siteconf)
    sources = Sources(wanted.storage, wanted.siblings, wanted.phedex_catalog)
    try:
        made = same_meaning(make_siteconf(siteconf_of(block), sources, siteconf.config.site))
    except (BoscoError, TypeError, ValueError) as err:
        return [f"the block cannot be rendered: {err}"]
    names = [field.name for field in fields(SiteLocalConfig) if field.compare]
    return [
        f"{name.replace('_', ' ')}: is not in the source, or cannot be said; the block's default applies"
        for name in names
        if getattr(made.config, name) != getattr(wanted.config, name)
    ]


def _refused(block: Mapping[str, Any]) -> list[str]:
    """What the schema of site files does not take as it is."""
    schema = site_schema()
    siteconf = schema["properties"]["runtime"]["properties"]["siteconf"]
    found = Schema({**siteconf, "definitions": schema["definitions"]}).findings(block)
    return sorted(f"{dotted(path)}: {message}{'; ' if hint else ''}{hint}" for path, message, hint in found)


def _not_said(siteconf: Siteconf) -> list[str]:
    frontier = siteconf.config.frontier
    left = [f"<{name}> of <frontier-connect>" for name, _attributes in (frontier.others if frontier else ())]
    for rule in siteconf.phedex_catalog or ():
        if rule.destination_match not in (None, ".*"):
            left.append(f"destination-match of the rule on line {rule.line} of PhEDEx/storage.xml")
    return left


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and name != "line"}


def _old(old: LocalStageOut) -> dict[str, Any]:
    return {_OLD_FIELDS.get(name, name): value for name, value in _without_none(vars(old)).items()}


def _local_connect(config: SiteLocalConfig) -> Optional[dict[str, str]]:
    connect = config.local_connect
    return None if connect is None else {"prefix": connect.prefix, "suffix": connect.suffix}


def _frontier(frontier: Frontier) -> dict[str, Any]:
    family = frontier.prefer_ip_family
    data = {
        "servers": list(frontier.servers) or None,
        "proxies": list(frontier.proxies) or None,
        # Without the key there would be those of the default.
        "backup_proxies": list(frontier.backup_proxies),
        "proxy_configs": list(frontier.proxy_configs) or None,
        "failover_to_server": frontier.failover_to_server is not False,
        "load_balance": frontier.load_balance,
        "prefer_ip_family": int(family) if family in ("0", "4", "6") else family,
    }
    return _without_none(data)


def _source_config(source: SourceConfig) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for name, value in _without_none(vars(source)).items():
        if isinstance(value, tuple):
            if value:
                data[name] = list(value)
        elif name in _NUMBERS and value.isascii() and value.isdigit() and str(int(value[:12])) == value:
            data[name] = int(value)
        else:
            data[name] = _BOOLEANS.get(value, value) if name == "prefetching" else value
    return data


def _item(item: StorageItem) -> dict[str, Any]:
    return {
        "site": item.site,
        "volume": item.volume,
        "protocols": [_protocol(protocol) for protocol in item.protocols],
        **({} if item.type is None else {"type": item.type}),
        "rse": item.rse,
        **({"fts": list(item.fts)} if item.fts else {}),
    }


def _protocol(protocol: StorageProtocol) -> dict[str, Any]:
    rules = [_without_none(vars(rule)) for rule in protocol.rules]
    return _without_none({**vars(protocol), "rules": rules or None})


def _rule(rule: CatalogRule) -> dict[str, Any]:
    kind = {} if rule.kind == LFN_TO_PFN else {"kind": rule.kind}
    chain = {} if rule.chain is None else {"chain": rule.chain}
    return {**kind, "protocol": rule.protocol, "match": rule.path_match, "result": rule.result, **chain}
