# SPDX-License-Identifier: Apache-2.0
"""Rules of CMSSW and its Frontier client about site-local-config.xml.

Source: cmssw FWCore/Services/src/SiteLocalConfigService.cc (parse, dataCatalogs, frontierConnect); the Frontier
client's connect string, which is made of the attributes as they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from glideinwms_bosco.siteconf.lookup import Place, locate
from glideinwms_bosco.siteconf.model import Frontier, SourceConfig
from glideinwms_bosco.siteconf.scope import Scope, shown

VIRTUAL = "virtual"

_HOST = r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])"
_PROXY = re.compile(rf"https?://{_HOST}(?::[0-9]{{1,5}})?/?")
_SERVER = re.compile(rf"https?://{_HOST}(?::[0-9]{{1,5}})?/[^\s()/]+[^\s()]*")
_PROXY_CONFIG = re.compile(rf"(?:https?://{_HOST}(?::[0-9]{{1,5}})?|file://)/[^\s()]+")
_UNSIGNED = re.compile(r"[0-9]{1,10}")
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")
# What tinyxml2's XMLUtil::ToBool takes.
_BOOLEAN = re.compile(r"[0-9]{1,9}|true|True|TRUE|false|False|FALSE")


def check_cmssw(scope: Scope) -> None:
    """Apply them all."""
    config = scope.config
    if not config.data_access:
        scope.found(24, scope.line("data_access"), "<data-access> has no catalog")
    for reference in config.data_access:
        place = locate(scope.tree, reference)
        protocols = place.item.protocols if isinstance(place, Place) else ()
        if any(protocol.protocol == reference.protocol and protocol.access == VIRTUAL for protocol in protocols):
            scope.found(48, reference.line, f"protocol {reference.protocol!r} is virtual")
    if config.frontier is None and config.local_connect is None:
        scope.found(10, scope.line("calib_data"), "there is neither <frontier-connect> nor <local-connect>")
    if config.frontier is not None and config.local_connect is not None:
        scope.found(11, config.local_connect.line, f"<frontier-connect> stands on line {config.frontier.line}")
    elif config.frontier is not None:
        _frontier(scope, config.frontier)
    elif config.local_connect is not None and not (config.local_connect.prefix or config.local_connect.suffix):
        scope.found(57, config.local_connect.line, "<local-connect> changes nothing")
    if config.source_config is not None:
        _source_config(scope, config.source_config)


def _frontier(scope: Scope, frontier: Frontier) -> None:
    line = frontier.line
    if not frontier.servers:
        scope.found(50, line, "<frontier-connect> has no server")
    proxies = (*frontier.proxies, *frontier.backup_proxies, *frontier.proxy_configs)
    if not proxies and not scope.pilot_proxies:
        scope.found(52, line, "<frontier-connect> names no proxy")
    elif frontier.failover_to_server is not False:
        scope.found(51, line, "<failover toserver> is not no")
    lists = (
        ("proxy", frontier.proxies, _PROXY),
        ("backupproxy", frontier.backup_proxies, _PROXY),
        ("proxyconfig", frontier.proxy_configs, _PROXY_CONFIG),
        ("server", frontier.servers, _SERVER),
    )
    for name, urls, form in lists:
        _urls(scope, line, name, urls, form)
    settings = (
        ("load balance", frontier.load_balance, ("proxies", "servers")),
        ("prefer ipfamily", frontier.prefer_ip_family, ("0", "4", "6")),
    )
    for name, value, known in settings:
        if value is not None and value not in known:
            scope.found(55, line, f"<{name}={shown(value)}>")


def _urls(scope: Scope, line: int, name: str, urls: Sequence[str], form: re.Pattern[str]) -> None:
    seen: set[str] = set()
    for url in urls:
        if not form.fullmatch(url):
            scope.found(54, line, f"<{name} url={shown(url)}>")
        elif url in seen:
            scope.found(53, line, f"<{name} url={shown(url)}> stands twice")
        seen.add(url)


def _source_config(scope: Scope, source: SourceConfig) -> None:
    rows = (
        ("cache-min-free", source.cache_min_free, _NUMBER),
        ("ttree-cache-size", source.ttree_cache_size, _UNSIGNED),
        ("timeout-in-seconds", source.timeout_in_seconds, _UNSIGNED),
        ("prefetching", source.prefetching, _BOOLEAN),
    )
    for name, value, form in rows:
        if value is not None and not form.fullmatch(value):
            scope.found(58, source.line, f"<{name} value={shown(value)}>")
