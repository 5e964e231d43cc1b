# SPDX-License-Identifier: Apache-2.0
"""From an LFN to a PFN by the rules of a volume, step by step as each reader does it, its oddities included.

CMSSW: the whole name must match; the first rule that does decides, also when its chain then fails.
WMCore: the name must match from its start; what stands before and behind the match counts as groups, empty groups do
not; a rule with a chain is tried whether the name matches or not.

Source: cmssw FWCore/Catalog/src/FileLocator.cc (applyRules, replaceWithRegexp); WMCore
src/python/WMCore/Storage/RucioFileCatalog.py (readRFC, _doMatch), TrivialFileCatalog.py (readTFC, _doMatch).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Optional

from glideinwms_bosco.siteconf.check_storage import facts_of
from glideinwms_bosco.siteconf.model import StorageItem

MAX_CHAIN = 16
"""Of chained protocols; production sites have up to 2."""
LFN_START = "/store/"
"""CMSSW looks up nothing else."""


@dataclass(frozen=True)
class Rule:
    """A rule of either kind of catalog; `line` 0: made of a prefix."""

    protocol: str
    match: str
    result: str
    chain: Optional[str] = None
    line: int = 0


@dataclass(frozen=True)
class Resolved:
    """What came out.

    Attributes:
        pfn: empty when there is none.
        why: why there is none.
        steps: each rule that was applied, the innermost chain first.
    """

    pfn: str = ""
    why: str = ""
    steps: tuple[str, ...] = ()


class _Stopped(Exception):
    """No PFN, and no reason to look further."""


def cmssw_pfn(item: StorageItem, protocol: str, lfn: str) -> Resolved:
    """What CMSSW makes of an LFN."""
    rules: list[Rule] = []
    for offered in item.protocols:
        if offered.prefix:
            rules.append(Rule(offered.protocol, "/?(.*)", f"{offered.prefix}/$1"))
        else:
            rules += [
                Rule(offered.protocol, rule.lfn, rule.pfn, rule.chain or None, rule.line) for rule in offered.rules
            ]
    return cmssw_resolve(rules, (protocol,), lfn)


def cmssw_resolve(rules: Sequence[Rule], protocols: Iterable[str], lfn: str) -> Resolved:
    """What CMSSW makes of an LFN with these rules, of whatever catalog; the first protocol with an answer counts."""
    if not lfn.startswith(LFN_START):
        return Resolved(why=f"CMSSW looks up {LFN_START}... only")
    for rule in rules:
        facts = facts_of(rule.match)
        for why, what in ((facts.cmssw, "cannot compile"), (facts.endless, "may never finish")):
            if why:
                return Resolved(why=f"CMSSW {what} the rule on line {rule.line}: {why}")
    run = _Cmssw(rules)
    try:
        pfn = next(filter(None, (run.apply(protocol, lfn, 0) for protocol in protocols)), "")
    except _Stopped as stopped:
        return Resolved("", str(stopped), tuple(run.steps))
    return run.resolved(pfn)


def wmcore_pfn(items: Sequence[StorageItem], protocol: str, lfn: str) -> Resolved:
    """What WMCore makes of an LFN."""
    rules: list[Rule] = []
    for item in items:
        for offered in item.protocols:
            if offered.prefix is not None:
                rules.append(Rule(offered.protocol, "/(.*)", f"{offered.prefix}/$1"))
            else:
                rules += (Rule(offered.protocol, rule.lfn, rule.pfn, rule.chain, rule.line) for rule in offered.rules)
    return wmcore_resolve(rules, protocol, lfn)


def wmcore_resolve(rules: Sequence[Rule], protocol: str, lfn: str) -> Resolved:
    """What WMCore makes of an LFN with these rules, of whatever catalog: it goes through both kinds alike."""
    for rule in rules:
        facts = facts_of(rule.match)
        for why, what in ((facts.wmcore, "cannot compile"), (facts.endless, "may never finish")):
            if why:
                return Resolved(why=f"WMCore {what} the rule on line {rule.line}: {why}")
    run = _Wmcore(rules)
    try:
        pfn = run.apply(protocol, lfn, 0)
    except _Stopped as stopped:
        return Resolved("", str(stopped), tuple(run.steps))
    return run.resolved(pfn)


@dataclass
class _Run:
    rules: Sequence[Rule]
    steps: list[str] = field(default_factory=list)
    why: str = "no rule matches"

    def resolved(self, pfn: str) -> Resolved:
        return Resolved(pfn, "" if pfn else self.why, tuple(self.steps))

    def _note(self, rule: Rule, name: str, result: str) -> None:
        by = f"rule on line {rule.line}" if rule.line else "prefix"
        self.steps.append(f"{rule.protocol} ({by}): {name} -> {result}")

    def _of(self, protocol: str, depth: int) -> list[Rule]:
        if depth > MAX_CHAIN:
            raise _Stopped(f"chains lead in a circle, or are longer than {MAX_CHAIN}: the reader crashes")
        return [rule for rule in self.rules if rule.protocol == protocol]


class _Cmssw(_Run):
    def apply(self, protocol: str, name: str, depth: int) -> str:
        for rule in self._of(protocol, depth):
            facts = facts_of(rule.match)
            if facts.differs:
                raise _Stopped(f"not known: only CMSSW can tell whether the rule on line {rule.line} matches")
            # Its \d, \w and \s are those of ASCII.
            pattern = re.compile(rule.match, re.ASCII)
            if not pattern.fullmatch(name):
                continue
            before = name
            if rule.chain:
                before = self.apply(rule.chain, name, depth + 1)
                if not before:
                    self.why = f"the rule on line {rule.line} matches, but its chain {rule.chain!r} gives nothing"
                    return ""
            result = _cmssw_result(pattern.fullmatch(before), rule.result)
            self._note(rule, before, result)
            return result
        return ""


def _cmssw_result(match: Optional[re.Match[str]], result: str) -> str:
    """Fill in the groups; a name that a chain gave and that does not match any more leaves the result as it is."""
    for number, group in enumerate(match.groups() if match else (), 1):
        if group:
            result = result.replace(f"${number}", group)
    return result


class _Wmcore(_Run):
    def apply(self, protocol: str, name: str, depth: int) -> str:
        own = self._of(protocol, depth)
        for i, rule in enumerate(own):
            pattern = re.compile(rule.match)
            if rule.chain is None and not pattern.match(name):
                continue
            before = name
            if rule.chain is not None:
                before = self.apply(rule.chain, name, depth + 1)
                if not before:
                    self.why = f"chain {rule.chain!r} of the rule on line {rule.line} gives nothing"
                    if i + 1 < len(own):
                        # WMCore goes on with no name at all, which no expression takes.
                        raise _Stopped(f"{self.why}, and WMCore crashes over the next rule")
                    return ""
            parts = pattern.split(before, 1)
            if len(parts) < 2:
                continue
            result = rule.result
            for number, part in enumerate((part for part in parts if part), 1):
                result = result.replace(f"${number}", part)
            self._note(rule, before, result)
            return result
        return ""
