# SPDX-License-Identifier: Apache-2.0
"""Read and write storage.json: the volumes of a site.

Source: cms-sw/cmssw FWCore/Catalog/src/FileLocator.cc; dmwm/WMCore src/python/WMCore/Storage/RucioFileCatalog.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.errors import Problem, SiteconfError, SiteconfFileError
from glideinwms_bosco.json_file import JsonSource, PathKey, dotted
from glideinwms_bosco.siteconf.model import StorageItem, StorageProtocol, StorageRule
from glideinwms_bosco.siteconf.text_file import read_text, refuse, text_of

MAX_ITEMS = 1_000
"""Of a list in the file; the largest real one has 14 rules."""
# JsonSource reads objects only, so the array is put into one, on its own lines.
_WRAP = "items"


def read_storage(path: Path) -> tuple[StorageItem, ...]:
    """Read a file. Keys that no reader knows are left out.

    Raises:
        SiteconfFileError: it cannot be read, is no JSON, or something in it is not what readers need; all problems.
    """
    return parse_storage(read_text(path), str(path))


def parse_storage(text: str, file: str) -> tuple[StorageItem, ...]:
    """Read a file's text.

    Raises:
        SiteconfFileError: as `read_storage`.
    """
    source = JsonSource(f'{{"{_WRAP}":{text}\n}}', file, SiteconfFileError)
    if list(source.data) != [_WRAP]:
        refuse(file, 1, "text behind the end of the JSON value", "remove it")
    if not isinstance(source.data[_WRAP], list):
        refuse(file, 1, "is not a list of volumes", "start it with [ and end it with ]")
    reader = _Reader(source)
    items = reader.items()
    if reader.problems:
        raise SiteconfFileError(tuple(sorted(reader.problems, key=lambda problem: problem.line)))
    return items


def write_storage(items: Iterable[StorageItem]) -> bytes:
    """Write a file; every item has `rse`, without which WMCore fails.

    Raises:
        SiteconfError: a value cannot stand in the file, or there is too much for its readers.
    """
    given = tuple(items)
    content = (json.dumps([_item(item) for item in given], indent=2) + "\n").encode("ascii")
    if parse_storage(text_of(content, "storage.json"), "storage.json") != given:
        raise SiteconfError("the storage.json would not say what it should")
    return content


class _Reader:
    """Builds the items and collects what is wrong with them."""

    def __init__(self, source: JsonSource) -> None:
        self._source = source
        self.problems: list[Problem] = []

    def items(self) -> tuple[StorageItem, ...]:
        return tuple(self._item(data, path) for data, path in self._blocks(self._source.data, (), _WRAP, True))

    def _item(self, data: Mapping[str, Any], path: PathKey) -> StorageItem:
        fts = data.get("fts", [])
        if not isinstance(fts, list) or not all(isinstance(url, str) for url in fts):
            self._report((*path, "fts"), "must be a list of texts")
            fts = []
        return StorageItem(
            site=self._needed(data, path, "site"),
            volume=self._needed(data, path, "volume"),
            type=self._text(data, path, "type"),
            rse=self._text(data, path, "rse", null=True),
            fts=tuple(fts),
            protocols=tuple(self._protocol(block, at) for block, at in self._blocks(data, path, "protocols", True)),
            rse_missing="rse" not in data,
            line=self._source.line(path),
        )

    def _protocol(self, data: Mapping[str, Any], path: PathKey) -> StorageProtocol:
        prefix = self._text(data, path, "prefix")
        rules = tuple(self._rule(block, at) for block, at in self._blocks(data, path, "rules", prefix is None))
        return StorageProtocol(
            protocol=self._needed(data, path, "protocol"),
            access=self._text(data, path, "access"),
            prefix=prefix,
            rules=rules,
            line=self._source.line(path),
        )

    def _rule(self, data: Mapping[str, Any], path: PathKey) -> StorageRule:
        return StorageRule(
            lfn=self._needed(data, path, "lfn"),
            pfn=self._needed(data, path, "pfn"),
            chain=self._text(data, path, "chain", null=True),
            line=self._source.line(path),
        )

    def _blocks(
        self, data: Mapping[str, Any], path: PathKey, name: str, needed: bool
    ) -> list[tuple[Mapping[str, Any], PathKey]]:
        """The objects of a list, each with its path."""
        where = (*path, name)
        value = data.get(name)
        if value is None and not needed:
            return []
        if not isinstance(value, list) or len(value) > MAX_ITEMS:
            self._report(where, f"must be a list of at most {MAX_ITEMS} blocks" if name in data else "missing")
            return []
        for i, block in enumerate(value):
            if not isinstance(block, dict):
                self._report((*where, i), "must be a block of fields, in { }")
        return [(block, (*where, i)) for i, block in enumerate(value) if isinstance(block, dict)]

    def _needed(self, data: Mapping[str, Any], path: PathKey, name: str) -> str:
        if name not in data:
            self._report((*path, name), "missing")
            return ""
        return self._text(data, path, name) or ""

    def _text(self, data: Mapping[str, Any], path: PathKey, name: str, null: bool = False) -> Optional[str]:
        value = data.get(name)
        if isinstance(value, str):
            return value
        if name in data and not (null and value is None):
            self._report((*path, name), "must be text" + (" or null" if null else ""))
        return None

    def _report(self, path: PathKey, message: str) -> None:
        line = self._source.line(path)
        self.problems.append(Problem(self._source.file, line, dotted(path[1:]), message, "readers would fail on it"))


def _item(item: StorageItem) -> dict[str, Any]:
    optional = {} if item.type is None else {"type": item.type}
    return {
        "site": item.site,
        "volume": item.volume,
        "protocols": [_protocol(protocol) for protocol in item.protocols],
        **optional,
        "rse": item.rse,
        "fts": list(item.fts),
    }


def _protocol(protocol: StorageProtocol) -> dict[str, Any]:
    written: dict[str, Any] = {"protocol": protocol.protocol}
    if protocol.access is not None:
        written["access"] = protocol.access
    if protocol.prefix is not None:
        written["prefix"] = protocol.prefix
    if protocol.rules or protocol.prefix is None:
        written["rules"] = [_rule(rule) for rule in protocol.rules]
    return written


def _rule(rule: StorageRule) -> dict[str, str]:
    chain = {} if rule.chain is None else {"chain": rule.chain}
    return {"lfn": rule.lfn, "pfn": rule.pfn, **chain}
