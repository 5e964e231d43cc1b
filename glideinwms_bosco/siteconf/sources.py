# SPDX-License-Identifier: Apache-2.0
"""Read the files that a site's `runtime.siteconf` names, and make the SITECONF that the block describes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Optional, TypeVar

from glideinwms_bosco.errors import Problem, SiteconfError, SiteconfFileError
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.site.siteconf_block import SiteconfBlock
from glideinwms_bosco.siteconf.model import STORAGE_NAME, CatalogRule, Siteconf, StorageItem
from glideinwms_bosco.siteconf.presets import Sources, make_siteconf, unresolved
from glideinwms_bosco.siteconf.storage_json import parse_storage, read_storage
from glideinwms_bosco.siteconf.tfc import read_catalog

_Read = TypeVar("_Read")


def required_block(site: SiteDescription) -> SiteconfBlock:
    """The SITECONF block of a site.

    Raises:
        SiteconfError: the site file has none.
    """
    if site.runtime is None or site.runtime.siteconf is None:
        raise SiteconfError(f"{site.file or site.name}: has no runtime.siteconf", "add one; see docs/site-file.md")
    return site.runtime.siteconf


def site_name(site: SiteDescription) -> str:
    """Name of the CMS site whose SITECONF it is.

    Raises:
        SiteconfError: the site file says none.
    """
    name = required_block(site).site or site.cms_site
    if name is None:
        raise SiteconfError(f"{site.file or site.name}: names no CMS site", "set runtime.siteconf.site, or cms_site")
    return name


def described_siteconf(site: SiteDescription) -> Siteconf:
    """Make the SITECONF that a site's block describes; not for one with `tree`.

    Raises:
        SiteconfFileError: a file cannot be read or used, or a volume is in none; each problem names the line of the
            site file.
        SiteconfError: there is no block, or no name of a CMS site.
    """
    block = required_block(site)
    reader = _Reader(site)
    siblings = {}
    for name, folder in block.siblings:
        found = reader.read(f"siblings.{name}", read_storage, Path(folder) / STORAGE_NAME)
        if found is not None:
            siblings[name] = found
    sources = Sources(_storage(block, reader, site_name(site)), siblings, _catalog(block, reader))
    if reader.problems:
        raise SiteconfFileError(tuple(reader.problems))
    siteconf = make_siteconf(block, sources, site_name(site))
    for field, message in unresolved(siteconf):
        reader.report(field, message, "correct it, or the storage.json")
    if reader.problems:
        raise SiteconfFileError(tuple(reader.problems))
    return siteconf


class _Reader:
    """Reads files of a site; what is wrong with one is a problem of the field that names it."""

    def __init__(self, site: SiteDescription) -> None:
        self._site = site
        self.problems: list[Problem] = []

    def read(self, field: str, read: Callable[[Path], _Read], path: Path) -> Optional[_Read]:
        try:
            return read(path)
        except SiteconfFileError as err:
            for problem in err.problems:
                place = f"{problem.file}:{problem.line}" if problem.line else problem.file
                inner = f"{problem.field}: " if problem.field else ""
                self.report(field, f"{place}: {inner}{problem.message}", problem.hint)
            return None

    def report(self, field: str, message: str, hint: str) -> None:
        where = f"runtime.siteconf.{field}"
        self.problems.append(Problem(self._site.file, self._site.line(where), where, message, hint))


def _storage(block: SiteconfBlock, reader: _Reader, site: str) -> tuple[StorageItem, ...]:
    if block.storage is not None:
        return reader.read("storage", read_storage, Path(block.storage)) or ()
    if block.storage_items is None:
        return ()
    items = [{"site": site, "type": "DISK", "rse": None, **item} for item in json.loads(block.storage_items)]
    return reader.read("storage", lambda path: parse_storage(json.dumps(items), str(path)), Path("storage")) or ()


def _catalog(block: SiteconfBlock, reader: _Reader) -> Optional[tuple[CatalogRule, ...]]:
    if block.phedex_catalog is not None:
        return reader.read("phedex_catalog", read_catalog, Path(block.phedex_catalog))
    rules = tuple(
        CatalogRule(rule.kind, rule.protocol, rule.match, rule.result, rule.chain) for rule in block.phedex_rules
    )
    return rules or None
