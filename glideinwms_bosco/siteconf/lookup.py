# SPDX-License-Identifier: Apache-2.0
"""Find what a site, a volume and a protocol name in a tree, as CMSSW and WMCore find it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Union

from glideinwms_bosco.siteconf.from_tree import Reference, Tree
from glideinwms_bosco.siteconf.model import StorageItem


@dataclass(frozen=True)
class Place:
    """What a catalog or method leads to.

    Attributes:
        site: whose storage.json it is.
        items: those of the site and volume; CMSSW takes the first, WMCore all. At least one.
    """

    site: str
    items: tuple[StorageItem, ...]

    @property
    def item(self) -> StorageItem:
        """The first."""
        return self.items[0]


@dataclass(frozen=True)
class Nowhere:
    """Why it leads nowhere: the code of a finding (0: reported elsewhere) and a sentence."""

    number: int
    message: str


def locate(tree: Tree, reference: Reference) -> Union[Place, Nowhere]:
    """Look a catalog or method up."""
    if not reference.volume or not reference.protocol:
        lacking = "volume" if not reference.volume else "protocol"
        return Nowhere(17, f"there is no {lacking}")
    site = tree.storage_site(reference)
    if site in tree.absent:
        return Nowhere(*tree.absent[site])
    items = tree.siteconf.storage_of(reference.site)
    if items is None:
        return Nowhere(0, "it was not looked up")
    found = tuple(item for item in items if item.site == site and item.volume == reference.volume)
    file = tree.storage_files.get(site, "")
    if not found:
        known = _names(sorted({item.volume for item in items if item.site == site}))
        return Nowhere(22, f"volume {reference.volume!r} of {site} is not in {file} (it has {known})")
    protocols = [protocol.protocol for protocol in found[0].protocols]
    if reference.protocol not in protocols:
        message = f"protocol {reference.protocol!r} of {site} {reference.volume} is not in {file}"
        return Nowhere(23, f"{message} (it has {_names(protocols)})")
    return Place(site, found)


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) or "none"
