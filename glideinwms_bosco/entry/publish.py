# SPDX-License-Identifier: Apache-2.0
"""Decide what config.d becomes: rendered files, plus disabled copies of entries that would vanish. Pure.

An entry that is enabled in the live configuration and missing in the next one stops reconfig for the whole factory
(glideinWMS 3.10 creation/reconfig_glidein). So one that has left its site file, or whose site file has gone, stays in
config.d as a disabled copy until the operator says that a reconfig has seen it. When it comes back to a site file it
is an entry like any other again: nothing is remembered of its absence.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lxml import etree

from glideinwms_bosco.entry.external import is_copy
from glideinwms_bosco.entry.render import WRITTEN_BY

_FILE_NAME = re.compile(r"[0-9]{2}-(?P<stem>.+)\.xml")
HEAD_BYTES = 500
"""In which a file of ours says so."""


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


@dataclass(frozen=True)
class Known:
    """What the site files of the host say, also of sites that are not rendered now.

    Attributes:
        files: names of the files that these sites are rendered to.
        entries: names of all entries.
        complete: all sites of the host are rendered now, so that other files of ours have lost their site.
    """

    files: Collection[str]
    entries: Collection[str]
    complete: bool = False


def plan_publication(
    live: Mapping[str, bytes], rendered: Mapping[str, bytes], removed: Collection[str], known: Known
) -> Publication:
    """Compare rendered files with the live ones.

    Args:
        live: name -> content of the files in config.d that are ours (see `is_ours`).
        rendered: name -> content of the files of the sites at hand.
        removed: entries that the operator has removed for good.
    """
    files, deletes, carried = dict(rendered), [], []
    for file, text in live.items():
        if file not in rendered and file in known.files:
            continue  # another site's, which is not rendered now
        entries = _entries(text)
        orphans = [
            entry
            for name, entry in entries.items()
            # Without a copy of ours the entry is what its own file says.
            if name not in known.entries and name not in removed and not is_copy(entry)
        ]
        if file in rendered or known.complete:
            if orphans:
                files[file] = _with_copies(rendered.get(file, text), orphans, keep=file in rendered)
                carried += [str(entry.get("name")) for entry in orphans]
            elif file not in rendered:
                deletes.append(file)
        elif entries and all(name in known.entries or name in removed for name in entries):
            # Left over from another order or another name of the site file; it could win over the new one.
            deletes.append(file)
        elif any(name in removed for name in entries):
            files[file] = _with_copies(text, orphans, keep=False)
    return Publication(files, tuple(sorted(deletes)), tuple(sorted(carried)))


def is_ours(name: str, text: bytes) -> bool:
    """Tell whether a file of config.d was written by this program, and not made from such a file by hand."""
    found = _FILE_NAME.fullmatch(name)
    return found is not None and _mark(found["stem"]).encode() in text[:HEAD_BYTES]


def _mark(stem: str) -> str:
    # A comment cannot hold `--`; render writes it apart.
    return f"<!-- {WRITTEN_BY} {stem}.yaml:".replace("--", "- -").replace("<!- -", "<!--")


def was_ours(text: bytes) -> bool:
    """Tell whether a file, perhaps damaged, begins as ours do."""
    return f"<!-- {WRITTEN_BY} ".encode() in text[:HEAD_BYTES]


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
