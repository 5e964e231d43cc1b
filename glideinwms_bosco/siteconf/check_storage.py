# SPDX-License-Identifier: Apache-2.0
"""Rules about storage.json and PhEDEx/storage.xml: every rule compiles, ends, and every chain leads somewhere.

Source: cmssw FWCore/Catalog/src/FileLocator.cc; WMCore RucioFileCatalog.py (readRFC, _doMatch), TrivialFileCatalog.py.
"""

from __future__ import annotations

import graphlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from glideinwms_bosco.siteconf.model import CatalogRule, StorageItem, StorageProtocol
from glideinwms_bosco.siteconf.patterns import PatternFacts, pattern_facts
from glideinwms_bosco.siteconf.scope import Scope, shown
from glideinwms_bosco.siteconf.tfc import LFN_TO_PFN

MAX_PATTERN_CHARS_IN_ALL = 16 * 1024
"""Of all regular expressions of a tree: each costs microseconds a character to judge."""

_PLACEHOLDER = re.compile(r"\$([0-9]{1,3})")
facts_of = lru_cache(maxsize=1024)(pattern_facts)


@dataclass(frozen=True)
class _Rule:
    """A rule of either kind of file."""

    name: str
    pattern: str
    result: str
    line: int


def check_storage(scope: Scope) -> None:
    """Apply them to the own files and to those of other sites that are referred to."""
    budget = _Budget(MAX_PATTERN_CHARS_IN_ALL)
    for name, file in scope.tree.storage_files.items():
        items = scope.tree.siteconf.storage_of(name) or ()
        _twice(scope, file, items)
        for item in items:
            _item(scope, file, item, budget)
    catalog = scope.tree.siteconf.phedex_catalog
    if catalog:
        _catalog(scope, catalog, budget)


class _Budget:
    """How many characters of regular expressions may still be looked at."""

    def __init__(self, left: int) -> None:
        self._left = left
        self._said = False

    def allows(self, scope: Scope, file: str, rule: _Rule) -> bool:
        self._left -= len(rule.pattern)
        if self._left < 0 and not self._said:
            self._said = True
            message = f"there are more than {MAX_PATTERN_CHARS_IN_ALL} characters of regular expressions"
            scope.found(49, rule.line, f"{message}; the rest is not looked at", file)
        return self._left >= 0


def _twice(scope: Scope, file: str, items: Sequence[StorageItem]) -> None:
    first: dict[tuple[str, str], int] = {}
    for item in items:
        place = (item.site, item.volume)
        if place in first:
            scope.found(31, item.line, f"{item.site} {item.volume} stands on line {first[place]} too", file)
        first.setdefault(place, item.line)


def _item(scope: Scope, file: str, item: StorageItem, budget: _Budget) -> None:
    first: dict[str, int] = {}
    for protocol in item.protocols:
        name = f"{item.volume} {protocol.protocol}"
        if protocol.protocol in first:
            scope.found(32, protocol.line, f"{name} stands on line {first[protocol.protocol]} too", file)
        first.setdefault(protocol.protocol, protocol.line)
        _forms(scope, file, name, protocol)
        # Where there is a prefix, no reader looks at rules; but CMSSW takes an empty one for none.
        if not protocol.prefix:
            rules = (_Rule(name, rule.lfn, rule.pfn, rule.line) for rule in protocol.rules)
            _rules(scope, file, rules, budget)
    chains: dict[str, list[tuple[str, int]]] = {}
    for protocol in item.protocols:
        links = [(rule.chain, rule.line) for rule in protocol.rules if rule.chain is not None]
        chains.setdefault(protocol.protocol, []).extend(() if protocol.prefix else links)
    _chains(scope, file, item.volume, set(first), chains)


def _forms(scope: Scope, file: str, name: str, protocol: StorageProtocol) -> None:
    if protocol.prefix == "":
        scope.found(35, protocol.line, f"the prefix of {name} is empty", file)
    elif protocol.prefix is None and not protocol.rules:
        scope.found(33, protocol.line, f"{name} has no rules", file)
    elif protocol.prefix and protocol.rules:
        scope.found(34, protocol.line, f"{name} has both", file)


def _catalog(scope: Scope, catalog: Sequence[CatalogRule], budget: _Budget) -> None:
    file = scope.tree.catalog_file
    rules = [_Rule(f"{rule.kind} {rule.protocol}", rule.path_match, rule.result, rule.line) for rule in catalog]
    rules += [
        _Rule(f"destination of {rule.protocol}", rule.destination_match, "", rule.line)
        for rule in catalog
        if rule.destination_match
    ]
    _rules(scope, file, rules, budget)
    chains: dict[str, list[tuple[str, int]]] = {}
    for rule in catalog:
        if rule.kind == LFN_TO_PFN:
            chains.setdefault(rule.protocol, []).extend([(rule.chain, rule.line)] if rule.chain else [])
    _chains(scope, file, "the catalog", set(chains), chains)


def _rules(scope: Scope, file: str, rules: Iterable[_Rule], budget: _Budget) -> None:
    for rule in rules:
        if not budget.allows(scope, file, rule):
            return
        for number, message in _faults(rule, facts_of(rule.pattern)):
            scope.found(number, rule.line, f"rule of {rule.name}, {shown(rule.pattern)}: {message}", file)


def _faults(rule: _Rule, facts: PatternFacts) -> Iterator[tuple[int, str]]:
    if facts.endless:
        yield 39, facts.endless
        return
    for number, why in ((36, facts.cmssw), (37, facts.wmcore), (38, facts.differs)):
        if why:
            yield number, why
    if facts.cmssw or facts.wmcore or facts.differs:
        return
    beyond = sorted({int(number) for number in _PLACEHOLDER.findall(rule.result) if int(number) > facts.groups})
    if beyond:
        yield 43, f"its result has ${beyond[0]}, of {facts.groups} groups"
    if facts.droppable:
        yield 47, "a group may be empty"


def _chains(
    scope: Scope, file: str, where: str, protocols: set[str], chains: Mapping[str, Sequence[tuple[str, int]]]
) -> None:
    for name, links in chains.items():
        for chain, line in links:
            if chain not in protocols:
                scope.found(40, line, f"{where} {name} is chained to {shown(chain)}", file)
    order = graphlib.TopologicalSorter({name: {chain for chain, _ in links} for name, links in chains.items()})
    try:
        order.prepare()
    except graphlib.CycleError as err:
        circle = set(err.args[1])
        start = next(name for name in chains if name in circle)
        line = next(line for chain, line in chains[start] if chain in circle)
        scope.found(41, line, f"{where}: {', '.join(sorted(circle)[:8])}", file)
