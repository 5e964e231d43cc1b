# SPDX-License-Identifier: Apache-2.0
"""What entry XML means, apart from order, white space and elements that say nothing."""

from __future__ import annotations

from lxml import etree

# Lists whose elements are told apart by a key; the later of two equal keys wins.
# Source: glideinWMS 3.10 creation/lib/xmlConfig.py and factoryXmlConfig.py, LIST_TAGS.
LIST_KEYS = {
    "attrs": "name",
    "files": "absfname",
    "allow_frontends": "name",
    "per_frontends": "name",
    "submit_attrs": "name",
    "infosys_refs": "ref",
    "monitorgroups": "group_name",
}

Meaning = dict[str, str]
"""Path of each value to the value: `attrs[GLIDEIN_CPUS]/@value` -> `16`."""


def entry_meanings(root: etree._Element) -> dict[str, Meaning]:
    """Entry name -> its meaning, for a `<glidein>` element; a later entry replaces an earlier one of that name."""
    return {str(entry.get("name")): _meaning(entry, "") for entry in root.iterfind("./entries/entry")}


def _meaning(element: etree._Element, path: str) -> Meaning:
    found: Meaning = {path + "@" + str(name): str(value) for name, value in element.attrib.items()}
    key = LIST_KEYS.get(str(element.tag))
    keyed: dict[str, Meaning] = {}
    for child in element.iterchildren(tag=etree.Element):
        name = path + str(child.tag)
        if key is not None:
            name = f"{path}[{child.get(key) or ''}]"
            keyed[name] = _meaning(child, f"{name}/")
        else:
            found.update(_meaning(child, f"{name}/"))
    for values in keyed.values():
        found.update(values)
    return found
