# SPDX-License-Identifier: Apache-2.0
"""Parse the XML of a SITECONF without trusting it: no document type, no entities, bounded tags and depth.

Stricter than the readers: CMSSW's (tinyxml2) skips a document type, WMCore's (expat) expands its entities.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, cast

from lxml import etree

from glideinwms_bosco.siteconf.text_file import read_text, refuse

MAX_DEPTH = 16
"""Of elements in elements; the readers look at five levels."""
MAX_MARKUP = 20_000
"""Of `<`: elements, closing tags, comments. A real storage.xml has up to 600."""

_TOO_DEEP = etree.XPath(f"boolean({'/*' * (MAX_DEPTH + 1)})")


@dataclass(frozen=True, eq=False)
class XmlFile:
    """A parsed file: its path as the operator gave it, and the root element."""

    file: str
    root: etree._Element


def read_xml(path: Path) -> XmlFile:
    """Read a file.

    Raises:
        SiteconfFileError: it cannot be read, is no well-formed XML, or is beyond a limit.
    """
    return parse_xml(read_text(path), str(path))


def parse_xml(text: str, file: str) -> XmlFile:
    """Parse a file's text.

    Raises:
        SiteconfFileError: no well-formed XML, a document type, or beyond a limit; one problem, with its line.
    """
    doctype = text.find("<!DOCTYPE")
    if doctype >= 0:
        line = text.count("\n", 0, doctype) + 1
        refuse(file, line, "has a document type (<!DOCTYPE), which is not read", "no SITECONF needs one; remove it")
    if text.count("<") > MAX_MARKUP:
        refuse(file, 0, f"has more than {MAX_MARKUP} tags", "no SITECONF has; remove what does not belong in it")
    # The encoding is said here, so that a declaration in the file cannot hide anything from the tests above.
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False, encoding="utf-8"
    )
    try:
        root = etree.fromstring(text.encode("utf-8"), parser)
    except (etree.XMLSyntaxError, ValueError) as err:
        line = getattr(err, "lineno", None) or 1
        message = re.sub(r", line \d+, column \d+$", "", (getattr(err, "msg", None) or str(err)).split(" (<string>")[0])
        refuse(file, line, f"is no well-formed XML: {message}", "no reader takes it; correct this line")
    if _TOO_DEEP(root):
        refuse(file, 0, f"has elements more than {MAX_DEPTH} deep", "no reader looks there; correct the nesting")
    return XmlFile(file, root)


def line_of(element: etree._Element) -> int:
    """1-based line of the end of an element's opening tag."""
    return cast(Optional[int], element.sourceline) or 0


def children(element: Optional[etree._Element], name: Optional[str] = None) -> Iterator[etree._Element]:
    """Child elements, those of a name or all, without comments; of nothing, none."""
    if element is not None:
        yield from element.iterchildren(name or etree.Element)


def first(element: Optional[etree._Element], name: str) -> Optional[etree._Element]:
    """The first child element of a name, which is the one that CMSSW reads."""
    return next(children(element, name), None)


def attribute(element: Optional[etree._Element], name: str) -> Optional[str]:
    """An attribute; None when it, or the element, is not there."""
    return None if element is None else element.get(name)
