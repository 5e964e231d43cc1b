# SPDX-License-Identifier: Apache-2.0
"""What entry XML means, apart from order, white space and elements that say nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from lxml import etree

from glideinwms_bosco.entry import configuration
from glideinwms_bosco.entry.configuration import elements

FILES = "files"
"""The list whose order counts, and whose equal keys do not replace each other: the pilot gets each file in turn."""

# The lists of an entry, whose elements are told apart by a key; the later of two equal keys wins.
_ENTRY_LISTS = ("attrs", FILES, "allow_frontends", "per_frontends", "submit_attrs", "infosys_refs", "monitorgroups")
LIST_KEYS = {tag: configuration.LIST_KEYS[tag][0] for tag in _ENTRY_LISTS}

Meaning = dict[str, str]
"""Path of each value to the value: `attrs[GLIDEIN_CPUS]/@value` -> `16`."""


def entry_meanings(root: etree._Element) -> dict[str, Meaning]:
    """Entry name -> its meaning, for a `<glidein>` element; a later entry replaces an earlier one of that name.

    Of two equal siblings outside lists only the last one counts, as in `configuration.child`. More than one file of
    an entry, in the order the pilot gets them, has the value `files/[/a]/@(position)`; one that stands there again is
    `files/[/a#2]`.
    """
    return {str(entry.get("name")): _meaning(entry, "") for entry in elements(root, "entries", "entry")}


def _meaning(element: etree._Element, path: str) -> Meaning:
    found: Meaning = {path + "@" + str(name): str(value) for name, value in element.attrib.items()}
    children = element.iterchildren(tag=etree.Element)
    if element.tag == FILES:
        found.update(_files(children, path))
        return found
    key = LIST_KEYS.get(str(element.tag))
    named = {str(child.tag) if key is None else f"[{child.get(key) or ''}]": child for child in children}
    for name, child in named.items():
        found.update(_meaning(child, f"{path}{name}/"))
    return found


def _files(children: Iterable[etree._Element], path: str) -> Meaning:
    # A place is taken only by a file that says something, as only such a one is rendered.
    counting = [(child, meaning) for child in children for meaning in [_meaning(child, "")] if meaning]
    found: Meaning = {}
    times: Counter[str] = Counter()
    taken: set[str] = set()
    for position, (child, meaning) in enumerate(counting, start=1):
        absfname = child.get(LIST_KEYS[FILES]) or ""
        name = absfname
        # A file may really be called `/a#2`.
        while name in taken:
            times[absfname] += 1
            name = f"{absfname}#{times[absfname] + 1}"
        taken.add(name)
        found.update({f"{path}[{name}]/{inner}": value for inner, value in meaning.items()})
        if len(counting) > 1:
            found[f"{path}[{name}]/@(position)"] = str(position)
    return found
