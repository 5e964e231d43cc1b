# SPDX-License-Identifier: Apache-2.0
"""Say which PFN each reader would use for an LFN, in the order in which it tries them, and why it has none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Optional

from glideinwms_bosco.errors import UsageError
from glideinwms_bosco.siteconf.bounded import within_deadline
from glideinwms_bosco.siteconf.check_wmcore import parse_catalog_url
from glideinwms_bosco.siteconf.codes import CMSSW, WMCORE
from glideinwms_bosco.siteconf.from_tree import MAX_REFERENCES, Reference, Tree
from glideinwms_bosco.siteconf.lookup import Nowhere, locate
from glideinwms_bosco.siteconf.model import CatalogRule, StageOutMethod
from glideinwms_bosco.siteconf.resolve import Resolved, Rule, cmssw_pfn, cmssw_resolve, wmcore_pfn
from glideinwms_bosco.siteconf.tfc import LFN_TO_PFN

MAX_LFN_CHARS = 1024
"""DBS takes LFNs of up to 500."""
OLD_CMSSW = "CMSSW before 12_6"
READ, WRITE = "read", "write"
DEFAULT_COMMAND = "gfal2"

_LFN = re.compile(r"/[\x21-\x7e]*")
# What a URL of <event-data> without `destination` asks rules for.
_ANY_DESTINATION = "any"


@dataclass(frozen=True)
class Attempt:
    """One thing a reader would try.

    Attributes:
        reader: CMSSW, WMCore or OLD_CMSSW.
        purpose: READ or WRITE.
        order: 1 for what is tried first.
        site: whose storage it is; empty for an old catalog.
        command: of a stage-out.
        pfn: empty when there is none.
        why: why there is none, or why it is not tried.
        steps: the rules that were applied.
        file: where the catalog or method stands.
        line: of it.
    """

    reader: str
    purpose: str
    order: int
    site: str
    volume: str
    protocol: str
    command: str
    pfn: str
    why: str
    steps: tuple[str, ...]
    file: str
    line: int

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {**asdict(self), "steps": list(self.steps)}


def explain(tree: Tree, lfn: str) -> tuple[Attempt, ...]:
    """Resolve an LFN for every reader; takes at most a second.

    Raises:
        UsageError: it is no LFN.
        SiteconfError: its expressions take too long.
    """
    if len(lfn) > MAX_LFN_CHARS or not _LFN.fullmatch(lfn):
        raise UsageError(
            f"{lfn[:80]!r} is no LFN", f"it starts with / and has up to {MAX_LFN_CHARS} printable characters"
        )
    return within_deadline(lambda: tuple(_attempts(tree, lfn)), f"{tree.path}: {lfn}")


def _attempts(tree: Tree, lfn: str) -> Iterator[Attempt]:
    config = tree.siteconf.config
    for order, reference in enumerate(config.data_access[:MAX_REFERENCES], 1):
        place = locate(tree, reference)
        resolved = (
            Resolved(why=_why(tree, place))
            if isinstance(place, Nowhere)
            else cmssw_pfn(place.item, reference.protocol, lfn)
        )
        yield _attempt(tree, CMSSW, READ, order, reference, resolved)
    yield from _old_attempts(tree, lfn)
    for order, method in enumerate(config.stage_out[:MAX_REFERENCES], 1):
        yield _attempt(tree, WMCORE, WRITE, order, method, _stage_out(tree, method, lfn))


def _stage_out(tree: Tree, method: StageOutMethod, lfn: str) -> Resolved:
    place = locate(tree, method)
    if isinstance(place, Nowhere) and place.number != 23:
        return Resolved(why=_why(tree, place))
    if isinstance(place, Nowhere):
        return Resolved(why="no rule matches: " + place.message)
    if place.item.rse is None:
        return Resolved(why="skipped: the volume has no rse")
    return wmcore_pfn(place.items, method.protocol, lfn)


def _why(tree: Tree, nowhere: Nowhere) -> str:
    broken = next((finding for finding in tree.findings if nowhere.number == 0), None)
    return str(broken.message) if broken else nowhere.message


def _old_attempts(tree: Tree, lfn: str) -> Iterator[Attempt]:
    catalog = tree.siteconf.phedex_catalog
    if catalog is None:
        return
    config = tree.siteconf.config
    for order, url in enumerate(config.event_data[:MAX_REFERENCES], 1):
        parsed = parse_catalog_url(url)
        if parsed is None or not parsed.is_own(config.site):
            continue
        resolved = cmssw_resolve(_rules(catalog), parsed.protocols, lfn)
        line = config.lines.get(f"event_data[{order - 1}]", 0)
        names = ",".join(parsed.protocols)
        where = (resolved.pfn, resolved.why, resolved.steps, tree.config_file, line)
        yield Attempt(OLD_CMSSW, READ, order, "", "", names, "", *where)


def _rules(catalog: tuple[CatalogRule, ...]) -> list[Rule]:
    return [
        Rule(rule.protocol, rule.path_match, rule.result, rule.chain, rule.line)
        for rule in catalog
        if rule.kind == LFN_TO_PFN and _for_any(rule.destination_match)
    ]


def _for_any(destination_match: Optional[str]) -> bool:
    return destination_match is None or destination_match in (".*", ".+", _ANY_DESTINATION)


def _attempt(tree: Tree, reader: str, purpose: str, order: int, reference: Reference, resolved: Resolved) -> Attempt:
    command = (reference.command or DEFAULT_COMMAND) if isinstance(reference, StageOutMethod) else ""
    return Attempt(
        reader,
        purpose,
        order,
        tree.storage_site(reference),
        reference.volume,
        reference.protocol,
        command,
        resolved.pfn,
        resolved.why,
        resolved.steps,
        tree.config_file,
        reference.line,
    )
