# SPDX-License-Identifier: Apache-2.0
"""Rules of CMSSW and WMCore alike: every site, volume and protocol that is named must be there.

Source: cmssw FWCore/Catalog/src/FileLocator.cc (constructor); WMCore RucioFileCatalog.py (storageJsonPath, rseName).
WMCore reads the storage.json of every method when it loads the configuration: one that is broken ends the job.
"""

from __future__ import annotations

from collections.abc import Sequence

from glideinwms_bosco.siteconf.from_tree import MAX_REFERENCES, Reference
from glideinwms_bosco.siteconf.lookup import Nowhere, locate
from glideinwms_bosco.siteconf.model import StageOutMethod
from glideinwms_bosco.siteconf.scope import Scope

# Said once for a site, however often it is named.
_OF_THE_SITE = frozenset((1, 3, 4, 20, 21, 28))


def check_references(scope: Scope) -> None:
    """Look up all catalogs and methods."""
    config = scope.config
    said: set[str] = set()
    references: list[Reference] = [*config.data_access, *config.stage_out]
    for reference in references[:MAX_REFERENCES]:
        if isinstance(reference, StageOutMethod) and reference.site == "":
            scope.found(28, reference.line, "site is empty: WMCore does not take that for the own site")
            continue
        place = locate(scope.tree, reference)
        if isinstance(place, Nowhere) and place.number:
            site = scope.tree.storage_site(reference)
            if place.number in _OF_THE_SITE and site in said:
                continue
            said.add(site)
            scope.found(place.number, reference.line, f"{_words(reference)}: {place.message}")
    _twice(scope, config.data_access)
    _twice(scope, config.stage_out)


def _twice(scope: Scope, references: Sequence[Reference]) -> None:
    first: dict[tuple[str, ...], int] = {}
    for reference in references[:MAX_REFERENCES]:
        command = reference.command or "" if isinstance(reference, StageOutMethod) else ""
        place = (scope.tree.storage_site(reference), reference.volume, reference.protocol, command)
        if place in first:
            scope.found(25, reference.line, f"{_words(reference)} stands on line {first[place]} too")
        first.setdefault(place, reference.line)


def _words(reference: Reference) -> str:
    kind = "method" if isinstance(reference, StageOutMethod) else "catalog"
    named = (("site", reference.site), ("volume", reference.volume), ("protocol", reference.protocol))
    return " ".join((kind, *(f"{name}={value[:60]!r}" for name, value in named if value)))
