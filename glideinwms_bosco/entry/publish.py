# SPDX-License-Identifier: Apache-2.0
"""Decide what config.d becomes: rendered files, plus disabled copies of entries that would vanish. Pure.

An entry that is enabled in the live configuration and missing in the next one stops reconfig for the whole factory
(glideinWMS 3.10 creation/reconfig_glidein). So one that has left its site file, or whose site file has gone, stays in
config.d as a disabled copy until the operator says that a reconfig has seen it.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Optional

from lxml import etree

from glideinwms_bosco.entry.render import WRITTEN_BY


@dataclass(frozen=True)
class Publication:
    """What to do in config.d.

    Attributes:
        files: file name -> content.
        deletes: files of ours that say nothing any more.
        carried: entries kept as disabled copies.
    """

    files: Mapping[str, bytes]
    deletes: tuple[str, ...]
    carried: tuple[str, ...]


def plan_publication(
    live: Mapping[str, bytes],
    rendered: Mapping[str, bytes],
    removed: Collection[str],
    lost: Optional[Collection[str]] = (),
) -> Publication:
    """Compare rendered files with the live ones.

    Args:
        live: name -> content of the files in config.d that are ours (see `is_ours`).
        rendered: name -> content of the files of the sites at hand.
        removed: entries that the operator has removed for good.
        lost: files of config.d whose site file has gone; None: every file of ours that is not rendered, which is
            so when all sites of the host were rendered.
    """
    present = {name for text in rendered.values() for name in _entries(text)}
    files, deletes, carried = dict(rendered), [], []
    for file, text in live.items():
        if file not in rendered and lost is not None and file not in lost:
            continue
        orphans = [entry for name, entry in _entries(text).items() if name not in present and name not in removed]
        if orphans:
            files[file] = _with_copies(rendered.get(file, text), orphans, keep=file in rendered)
            carried += [str(entry.get("name")) for entry in orphans]
        elif file not in rendered:
            deletes.append(file)
    return Publication(files, tuple(sorted(deletes)), tuple(sorted(carried)))


def is_ours(text: bytes) -> bool:
    """Tell whether a file of config.d was written by this program."""
    return f"<!-- {WRITTEN_BY} ".encode() in text[:500]


def _entries(text: bytes) -> dict[str, etree._Element]:
    return {str(entry.get("name")): entry for entry in etree.fromstring(text).findall("./entries/entry")}


def _with_copies(text: bytes, orphans: Collection[etree._Element], *, keep: bool) -> bytes:
    """The file with disabled copies added; `keep` False: with nothing but these."""
    root = etree.fromstring(text)
    (entries,) = root.findall("./entries")
    if not keep:
        for entry in list(entries):
            entries.remove(entry)
    for orphan in orphans:
        twin = copy.deepcopy(orphan)
        twin.set("enabled", "False")
        entries.append(twin)
    etree.indent(root)
    result: bytes = etree.tostring(root, pretty_print=True, xml_declaration=True, encoding="UTF-8")
    return result
