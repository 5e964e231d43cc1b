# SPDX-License-Identifier: Apache-2.0
"""CMSSW's rules for a SITECONF, written from its source and sharing no code with the package.

Source: cms-sw/cmssw FWCore/Services/src/SiteLocalConfigService.cc and FWCore/Catalog/src/FileLocator.cc.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional


class RefusedByCmsswError(Exception):
    """CMSSW would stop."""


@dataclass
class CmsswView:
    """One SITECONFIG_PATH as CMSSW sees it.

    Attributes:
        catalogs: own site, subsite, storage site, volume, protocol.
        frontier: the connect string; empty: none.
    """

    path: Path
    site: str = ""
    subsite: str = ""
    trivial: list[str] = field(default_factory=list)
    catalogs: list[tuple[str, str, str, str, str]] = field(default_factory=list)
    frontier: str = ""
    local_connect: Optional[tuple[str, str]] = None
    source: dict[str, str] = field(default_factory=dict)

    def frontier_values(self, key: str) -> list[str]:
        """The values of a key of the connect string, such as `proxyurl`."""
        return re.findall(rf"\({key}=([^)]*)\)", self.frontier)

    def pfns(self, lfn: str) -> list[str]:
        """What an LFN becomes by each catalog, in order."""
        return [self._pfn(catalog, lfn) for catalog in self.catalogs]

    def _pfn(self, catalog: tuple[str, str, str, str, str], lfn: str) -> str:
        site, subsite, storage_site, volume, protocol = catalog
        up = ("",) if not subsite else ("..",)
        where = self.path.joinpath(*up) if site == storage_site else self.path.joinpath("..", *up, storage_site)
        try:
            file = (where / "storage.json").resolve(strict=True)
        except OSError as err:
            raise RefusedByCmsswError(f"{where}/storage.json: path exists?") from err
        items = json.loads(file.read_text(encoding="utf-8"))
        item = next((one for one in items if (one.get("site"), one.get("volume")) == (storage_site, volume)), None)
        if item is None:
            raise RefusedByCmsswError(f"no {storage_site} {volume} in {file}")
        if not any(one.get("protocol") == protocol for one in item["protocols"]):
            raise RefusedByCmsswError(f"no {protocol} for {volume} in {file}")
        return _applied(_rules(item), protocol, lfn) if lfn.startswith("/store/") else ""


def read_as_cmssw(path: Path) -> CmsswView:
    """Read what SITECONFIG_PATH names."""
    view = CmsswView(path)
    root = ET.parse(path / "JobConfig" / "site-local-config.xml").getroot()  # noqa: S314 — our own file
    for site in root.findall("site"):
        view.site, view.subsite = site.get("name", ""), ""
        subsite = site.find("subsite")
        if subsite is not None:
            if len(subsite) or subsite.text:
                raise RefusedByCmsswError("Subsite node has children")
            view.subsite = subsite.get("name", "")
        view.trivial += [one.get("url", "") for one in site.findall("event-data/catalog")]
        for one in site.findall("data-access/catalog"):
            place = (one.get("site") or view.site, one.get("volume", ""), one.get("protocol", ""))
            view.catalogs.append((view.site, view.subsite, *place))
        _calibration(site, view)
        for one in site.findall("source-config/*"):
            view.source[one.tag] = one.get("endpoint") or one.get("value") or one.get("name") or ""
    if not view.catalogs:
        raise RefusedByCmsswError("Did not find catalogs in data-access section")
    return view


def _calibration(site: ET.Element, view: CmsswView) -> None:
    frontier, local = site.find("calib-data/frontier-connect"), site.find("calib-data/local-connect")
    if frontier is not None:
        view.frontier = "".join(f"({one.tag}{key}={value})" for one in frontier for key, value in one.items())
    if local is not None:
        if frontier is not None:
            raise RefusedByCmsswError("both frontier-connect and local-connect")
        connect = local.find("connectString")
        view.local_connect = ("", "") if connect is None else (connect.get("prefix", ""), connect.get("suffix", ""))


def _rules(item: dict[str, Any]) -> dict[str, list[tuple[str, str, str]]]:
    """Protocol -> pattern, result, chain."""
    rules: dict[str, list[tuple[str, str, str]]] = {}
    for protocol in item["protocols"]:
        found = rules.setdefault(protocol.get("protocol", ""), [])
        if protocol.get("prefix", ""):
            found.append(("/?(.*)", protocol["prefix"] + "/$1", ""))
        else:
            found += [(rule["lfn"], rule["pfn"], rule.get("chain", "")) for rule in protocol["rules"]]
    return rules


def _applied(rules: dict[str, list[tuple[str, str, str]]], protocol: str, name: str) -> str:
    for pattern, result, chain in rules.get(protocol, ()):
        if not re.fullmatch(pattern, name):
            continue
        if chain:
            name = _applied(rules, chain, name)
            if not name:
                return ""
        match = re.fullmatch(pattern, name)
        for i, group in enumerate(match.groups() if match else (), 1):
            result = result.replace(f"${i}", group) if group else result
        return result
    return ""
