# SPDX-License-Identifier: Apache-2.0
"""Say which PFN each reader would use for an LFN, in the order in which it tries them, and why it has none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional

from glideinwms_bosco.errors import UsageError
from glideinwms_bosco.siteconf.bounded import within_deadline
from glideinwms_bosco.siteconf.check_wmcore import parse_catalog_url
from glideinwms_bosco.siteconf.codes import CMSSW, WMCORE
from glideinwms_bosco.siteconf.from_tree import MAX_REFERENCES, Reference, Tree
from glideinwms_bosco.siteconf.lookup import Nowhere, locate
from glideinwms_bosco.siteconf.model import CatalogRule, LocalStageOut, StageOutMethod
from glideinwms_bosco.siteconf.resolve import Resolved, Rule, cmssw_pfn, cmssw_resolve, wmcore_pfn, wmcore_resolve
from glideinwms_bosco.siteconf.tfc import LFN_TO_PFN

MAX_LFN_CHARS = 1024
"""DBS takes LFNs of up to 500."""
OLD_CMSSW = "CMSSW before 12_6"
OLD_WMCORE = "WMCore before 2.3.2"
READ, WRITE = "read", "write"
DEFAULT_COMMAND = "gfal2"

_LFN = re.compile(r"/[\x21-\x7e]*")
# What a URL of <event-data> without `destination` asks rules for.
_ANY_DESTINATION = "any"


@dataclass(frozen=True)
class Attempt:
    """One thing a reader would try.

    Attributes:
        reader: CMSSW, WMCore, OLD_CMSSW or OLD_WMCORE.
        purpose: READ or WRITE.
        order: 1 for what is tried first.
        site: whose storage it is; of an old stage-out its phedex-node; empty for an old catalog.
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
    yield from _old_stage_outs(tree, lfn)


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
        rules = [rule for rule in catalog if _for_any(rule.destination_match)]
        resolved = cmssw_resolve(_rules(rules), parsed.protocols, lfn)
        line = config.lines.get(f"event_data[{order - 1}]", 0)
        names = ",".join(parsed.protocols)
        where = (resolved.pfn, resolved.why, resolved.steps, tree.config_file, line)
        yield Attempt(OLD_CMSSW, READ, order, "", "", names, "", *where)


def _old_stage_outs(tree: Tree, lfn: str) -> Iterator[Attempt]:
    """Where WMCore wrote before it knew `<stage-out>`: by a catalog, then by the prefix of one fallback.

    Of several `<fallback-stage-out>` it keeps the last. It looks at both when it starts, and stops when one lacks
    something. Destinations of rules it does not read.

    Source: WMCore 2.3.1 src/python/WMCore/Storage/StageOutMgr.py (initialiseSiteConf, localStageOut,
    fallbackStageOut), SiteLocalConfig.py (processFallbackStageOut, trivialFileCatalog).
    """
    local, fallbacks = tree.siteconf.config.local_stage_out, tree.siteconf.config.fallback_stage_outs[-1:]
    if local is None or (tree.siteconf.phedex_catalog is None and not fallbacks):
        return
    stopped = _old_stop(tree, local, fallbacks)
    url = local.catalog_url or ""
    parsed = parse_catalog_url(url)
    # The whole query is the name for it, with every comma.
    protocol = url.partition("?")[2].replace("protocol=", "")
    if stopped or (parsed is not None and parsed.is_own(tree.siteconf.config.site)):
        rules = _rules(tree.siteconf.phedex_catalog or ())
        yield _old_attempt(tree, 1, local, protocol, stopped or wmcore_resolve(rules, protocol, lfn))
    for old in fallbacks:
        prefix = old.lfn_prefix
        found = Resolved(why="there is no lfn-prefix") if prefix is None else Resolved(f"{prefix}{lfn}")
        yield _old_attempt(tree, 2, old, "", stopped or found)


def _old_stop(tree: Tree, local: LocalStageOut, fallbacks: Sequence[LocalStageOut]) -> Optional[Resolved]:
    """Why WMCore writes nothing at all by old elements, or cannot be followed."""
    needs = [("local", local.command, "command"), ("local", local.phedex_node, "phedex-node")]
    needs += [("local", local.catalog_url, "catalog")]
    for old in fallbacks:
        needs += [("fallback", old.phedex_node, "phedex-node"), ("fallback", old.command, "command")]
    for kind, value, name in needs:
        if value is None:
            return Resolved(why=f"WMCore stops: <{kind}-stage-out> has no {name}")
    parsed = parse_catalog_url(local.catalog_url or "")
    if parsed is None:
        return Resolved(why="not known: the catalog of <local-stage-out> has no path and protocol")
    if tree.siteconf.phedex_catalog is None and parsed.is_own(tree.siteconf.config.site):
        return Resolved(why=f"WMCore stops: {tree.catalog_file} is not there, or cannot be read")
    return None


def _old_attempt(tree: Tree, order: int, old: LocalStageOut, protocol: str, found: Resolved) -> Attempt:
    where = (old.phedex_node or "", "", protocol, old.command or "")
    return Attempt(OLD_WMCORE, WRITE, order, *where, found.pfn, found.why, found.steps, tree.config_file, old.line)


def _rules(catalog: Sequence[CatalogRule]) -> list[Rule]:
    return [
        Rule(rule.protocol, rule.path_match, rule.result, rule.chain, rule.line)
        for rule in catalog
        if rule.kind == LFN_TO_PFN
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
