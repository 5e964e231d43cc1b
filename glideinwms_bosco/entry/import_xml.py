# SPDX-License-Identifier: Apache-2.0
"""Bring an <entry> into one form per meaning, so that what an import takes out of it leaves exactly the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lxml import etree

from glideinwms_bosco.entry.meaning import LIST_KEYS

# What a site file cannot hold as text; XML can, by character references.
_NOT_IN_YAML = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]")
_XML_NAME = re.compile(r"(?!(?:name|xmlns)$)[A-Za-z_][A-Za-z0-9_.-]*")


def is_text(value: str) -> bool:
    """Tell whether a site file can hold the value as text."""
    return not _NOT_IN_YAML.search(value)


def is_plain_attribute(name: str, value: str) -> bool:
    """Tell whether `raw` can hold an XML attribute by name and value."""
    return bool(_XML_NAME.fullmatch(name)) and is_text(value)


def normalised(element: etree._Element) -> etree._Element:
    """Copy an element: equal keys of a list and equal siblings merged, sorted, without text and comments.

    The order of <files> stays, because the pilot runs them in that order, and so do files named twice.
    """
    copy = etree.Element(element.tag)
    for name, value in sorted(element.attrib.items()):
        copy.set(name, value)
    children = list(element.iterchildren(tag=etree.Element))
    key = LIST_KEYS.get(str(element.tag))
    if element.tag == "files":
        copy.extend(normalised(child) for child in children)
    elif key is not None:
        keyed = {child.get(key) or "": child for child in children}
        copy.extend(normalised(keyed[name]) for name in sorted(keyed))
    else:
        tags = sorted({str(child.tag) for child in children})
        copy.extend(normalised(_as_one([child for child in children if child.tag == tag])) for tag in tags)
    return copy


def _as_one(elements: list[etree._Element]) -> etree._Element:
    if len(elements) == 1:
        return elements[0]
    merged = etree.Element(elements[0].tag)
    for element in elements:
        for name, value in element.attrib.items():
            merged.set(name, value)
        # An element has one parent; the originals stay whole.
        merged.extend(_copies(element.iterchildren(tag=etree.Element)))
    return merged


def _copies(elements: Iterable[etree._Element]) -> list[etree._Element]:
    copies = []
    for element in elements:
        copy = etree.Element(element.tag)
        for name, value in element.attrib.items():
            copy.set(name, value)
        copy.extend(_copies(element.iterchildren(tag=etree.Element)))
        copies.append(copy)
    return copies


def fragments(rest: etree._Element) -> list[str]:
    """Write what is left of an entry as XML text, one line per child element, after removing what says nothing.

    Attributes that are left come as an <entry> of their own.
    """
    _prune(rest)
    found = [_as_text(child) for child in rest]
    left = {str(name): str(value) for name, value in rest.attrib.items() if name != "name"}
    if left:
        element = etree.Element("entry")
        for name, value in left.items():
            element.set(name, value)
        found.insert(0, _as_text(element))
    return found


def _prune(element: etree._Element) -> None:
    for child in list(element):
        _prune(child)
        if not child.attrib and not len(child):
            element.remove(child)


def _as_text(element: etree._Element) -> str:
    text = str(etree.tostring(element, encoding="unicode", with_tail=False))
    return _NOT_IN_YAML.sub(lambda found: f"&#{ord(found[0])};", text)
