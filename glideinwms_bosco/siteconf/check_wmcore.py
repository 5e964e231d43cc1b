# SPDX-License-Identifier: Apache-2.0
"""Rules of WMCore about site-local-config.xml: what it insists on, and where it would write.

Source: WMCore src/python/WMCore/Storage/SiteLocalConfig.py (read, processStageOut), StageOutMgr.py
(initialiseSiteConf), Registry.py and Backends/ (commands), TrivialFileCatalog.py (tfcFilename, tfcProtocol).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.siteconf.from_tree import MAX_REFERENCES
from glideinwms_bosco.siteconf.lookup import Place, locate
from glideinwms_bosco.siteconf.model import CATALOG_NAME, LOCAL_NAME, LocalStageOut, StageOutMethod
from glideinwms_bosco.siteconf.scope import Scope, shown
from glideinwms_bosco.siteconf.tfc import LFN_TO_PFN

COMMANDS = frozenset(("awss3", "cp", "gfal2", "srmv2", "srmv2-lcg", "stageout-xrdcp-fnal", "vandy", "xrdcp"))
_WRITABLE = frozenset(("global-rw", "site-rw"))
_URL = re.compile(r"trivialcatalog_file:(?P<path>/[^?\s]+)\?protocol=(?P<protocols>[^&?=\s]+)(?:&[^\s]*)?")


def check_wmcore(scope: Scope) -> None:
    """Apply them all."""
    config = scope.config
    if not config.event_data:
        scope.found(12, scope.line("event_data"), "there is no catalog in <event-data>")
    for i, url in enumerate(config.event_data):
        _catalog_url(scope, scope.line(f"event_data[{i}]"), url)
    if config.local_stage_out is None:
        scope.found(14, scope.line("local_stage_out"), "there is no <local-stage-out>")
    else:
        _local_stage_out(scope, config.local_stage_out)
    if not config.stage_out:
        scope.found(16, scope.line("stage_out"), "there is no method in <stage-out>")
    _methods(scope)


@dataclass(frozen=True)
class CatalogUrl:
    """A URL of `<event-data>` or `<local-stage-out>`: the path of a catalog on the node, and protocols in it."""

    path: str
    protocols: tuple[str, ...]

    def is_own(self, site: str) -> bool:
        """Whether it names the site's own PhEDEx/storage.xml, wherever on the node the SITECONF lies."""
        return self.path.endswith(tuple(f"/SITECONF/{name}/{CATALOG_NAME}" for name in (LOCAL_NAME, site)))


def parse_catalog_url(url: str) -> Optional[CatalogUrl]:
    """Take a URL apart; None: readers would not make sense of it."""
    match = _URL.fullmatch(url)
    return None if match is None else CatalogUrl(match["path"], tuple(match["protocols"].split(",")))


def _catalog_url(scope: Scope, line: int, url: str) -> None:
    parsed = parse_catalog_url(url)
    if parsed is None:
        scope.found(13, line, f"catalog url={shown(url)}")
        return
    rules = scope.tree.siteconf.phedex_catalog
    if rules is None or not parsed.is_own(scope.config.site):
        return
    known = {rule.protocol for rule in rules if rule.kind == LFN_TO_PFN}
    for protocol in parsed.protocols:
        if protocol not in known:
            names = ", ".join(sorted(known)[:8]) or "none"
            scope.found(60, line, f"protocol {protocol!r} is not in {scope.tree.catalog_file} (it has {names})")


def _local_stage_out(scope: Scope, old: LocalStageOut) -> None:
    rows = (("command", old.command), ("catalog", old.catalog_url), ("phedex-node", old.phedex_node))
    lacking = [name for name, value in rows if not value]
    if lacking:
        scope.found(15, old.line, f"<local-stage-out> has no {', '.join(lacking)}")
    _command(scope, old.line, old.command)
    if old.catalog_url:
        _catalog_url(scope, old.line, old.catalog_url)


def _command(scope: Scope, line: int, command: Optional[str]) -> None:
    if command and command not in COMMANDS:
        scope.found(19, line, f"command {shown(command)}")


def _methods(scope: Scope) -> None:
    methods = scope.config.stage_out[:MAX_REFERENCES]
    without_rse: list[StageOutMethod] = []
    for method in methods:
        if method.command == "":
            scope.found(19, method.line, "command is empty")
        _command(scope, method.line, method.command)
        place = locate(scope.tree, method)
        if not isinstance(place, Place):
            continue
        if place.item.rse_missing:
            scope.found(30, method.line, f"volume {method.volume!r} of {place.site} lacks the key rse")
        elif place.item.rse is None:
            without_rse.append(method)
        for protocol in place.item.protocols:
            if protocol.protocol == method.protocol and protocol.access and protocol.access not in _WRITABLE:
                scope.found(45, method.line, f"protocol {method.protocol!r} is {protocol.access}")
    number = 27 if without_rse and len(without_rse) == len(methods) else 26
    for method in without_rse:
        scope.found(number, method.line, f"volume {method.volume!r} has no rse")
