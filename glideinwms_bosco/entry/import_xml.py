# SPDX-License-Identifier: Apache-2.0
"""Bring an <entry> into one form per meaning, so that what an import takes out of it leaves exactly the rest."""

from __future__ import annotations

import re

from lxml import etree

from glideinwms_bosco.entry.meaning import FILES, LIST_KEYS

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
    """Copy what counts of an element, sorted: the last of equal siblings and of equal keys; no text, no comments.

    The order of <files> stays, because the pilot gets them in that order, and so do files named twice.
    """
    copy = etree.Element(element.tag)
    for name, value in sorted(element.attrib.items()):
        copy.set(name, value)
    children = element.iterchildren(tag=etree.Element)
    if element.tag == FILES:
        copy.extend(normalised(child) for child in children)
    else:
        named = {_named(child): child for child in children}
        copy.extend(normalised(named[name]) for name in sorted(named))
    return copy


def _named(element: etree._Element) -> str:
    """What tells an element from its siblings: its key in a list, else its tag."""
    parent = element.getparent()
    key = None if parent is None else LIST_KEYS.get(str(parent.tag))
    return str(element.tag) if key is None else element.get(key) or ""


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
