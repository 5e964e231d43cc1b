# SPDX-License-Identifier: Apache-2.0
"""Put what an imported entry keeps verbatim into its rendered element."""

from __future__ import annotations

from typing import Optional

from lxml import etree

from glideinwms_bosco.entry.meaning import LIST_KEYS
from glideinwms_bosco.site.fragment import parse_fragment
from glideinwms_bosco.site.model import Raw


def apply_raw(element: etree._Element, raw: Raw) -> None:
    """Let `raw` win over what fields have rendered into an <entry>.

    Raises:
        SiteError: a fragment is no XML.
    """
    # What disables an entry must keep its effect, whatever an import has kept.
    disabled = element.get("enabled") == "False"
    for name, value in raw.attributes:
        _set(element, name, value)
    for name, values in raw.attrs:
        _merge_into(_child(element, "attrs"), _keyed("attr", name, values))
    for name, value in raw.submit_attrs:
        parent = _child(_child(_child(element, "config"), "submit"), "submit_attrs")
        _merge_into(parent, _keyed("submit_attr", name, (("value", value),)))
    for text in raw.children:
        fragment = parse_fragment(text)
        _merge_into(element if fragment.tag == "entry" else _child(element, str(fragment.tag)), fragment)
    if disabled:
        element.set("enabled", "False")


def _set(element: etree._Element, name: str, value: Optional[str]) -> None:
    if value is not None:
        element.set(name, value)
    elif name in element.attrib:
        del element.attrib[name]


def _keyed(tag: str, name: str, values: tuple[tuple[str, str], ...]) -> etree._Element:
    """A list of one element, to be merged."""
    element = etree.Element(tag, {"name": name})
    for key, value in values:
        element.set(key, value)
    parent = etree.Element(f"{tag}s")
    parent.append(element)
    return parent


def _child(element: etree._Element, tag: str) -> etree._Element:
    found = next((child for child in element if child.tag == tag), None)
    return etree.SubElement(element, tag) if found is None else found


def _merge_into(element: etree._Element, fragment: etree._Element) -> None:
    """Add a fragment's attributes and children: those of a list replace their equals, others become one element."""
    for name, value in fragment.attrib.items():
        element.set(str(name), str(value))
    key = LIST_KEYS.get(str(fragment.tag))
    children = list(fragment.iterchildren(tag=etree.Element))
    if key is None:
        for child in children:
            _merge_into(_child(element, str(child.tag)), child)
        return
    replaced = {child.get(key) or "" for child in children}
    for own in list(element):
        if (own.get(key) or "") in replaced:
            element.remove(own)
    element.extend(children)
