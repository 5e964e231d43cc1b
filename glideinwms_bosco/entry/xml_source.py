# SPDX-License-Identifier: Apache-2.0
"""Read one XML file of a factory configuration, without trusting it, and keep the line of every element."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, Optional, cast
from xml.parsers import expat

from lxml import etree

from glideinwms_bosco.errors import EntryFileError, Problem

MAX_FILE_BYTES = 16 * 1024 * 1024
"""A production factory of 1,000 entries has 5 MB."""
MAX_MARKUP = 200_000
"""Of `<`: elements, closing tags, comments. An entry has about 60; each costs up to 250 bytes of memory."""
MAX_ASSIGNMENTS = 400_000
"""Of `=`: attributes. An entry has about 200; each costs up to 250 bytes of memory."""
MAX_DEPTH = 32
"""Of elements in elements; glideinWMS's own deepest element is at 9."""
# libxml2 keeps the line number in 16 bits.
_MAX_LIBXML_LINE = 65_535

# Those expat can decode (glideinWMS reads by expat), less UTF-16: its NUL bytes are never meant in a factory's files.
_ENCODINGS = frozenset(("utf-8", "us-ascii", "ascii", "iso-8859-1"))
_ENCODING = re.compile(rb"""<\?xml[^>]{0,100}?\bencoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_VISIBLE = re.compile(rb"[^ \t\r\n]")
_BOM = b"\xef\xbb\xbf"
_TOO_DEEP = etree.XPath(f"boolean({'/*' * (MAX_DEPTH + 1)})")


@dataclass(frozen=True, eq=False)
class EntryXml:
    """A parsed file.

    Attributes:
        file: path as the operator gave it.
        root: the document's root element, whatever its name.
    """

    file: str
    root: etree._Element
    _lines: Mapping[etree._Element, int] = field(default_factory=dict, repr=False)

    def line(self, element: etree._Element) -> int:
        """1-based line of the end of the element's opening tag; 0 for an element of another document."""
        return self._lines.get(element) or cast(Optional[int], element.sourceline) or 0


def read_entry_xml(path: Path) -> EntryXml:
    """Read a file; no DTD, no entities, no other file, no network, and limits on everything that costs.

    Raises:
        EntryFileError: the file cannot be read, is no well-formed XML, or is beyond a limit; one problem, with its
            line.
    """
    file = str(path)
    text = _read(path)
    _check_text(file, text)
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False, encoding=None
    )
    try:
        root = etree.fromstring(text, parser)
    except (etree.XMLSyntaxError, ValueError) as err:
        line = getattr(err, "lineno", None) or 1
        message = re.sub(r", line \d+, column \d+$", "", (getattr(err, "msg", None) or str(err)).split(" (<string>")[0])
        _refuse(file, line, f"is no well-formed XML: {message}", "reconfig cannot read it; correct this line")
    if _TOO_DEEP(root):
        _refuse(
            file, 0, f"has elements more than {MAX_DEPTH} deep", "no factory configuration has; correct the nesting"
        )
    return EntryXml(file, root, _big_lines(text, root))


def _refuse(file: str, line: int, message: str, hint: str = "") -> NoReturn:
    raise EntryFileError((Problem(file, line, "", message, hint),)) from None


def _read(path: Path) -> bytes:
    file = str(path)
    descriptor: Optional[int] = None
    try:
        # Without O_NONBLOCK a named pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            _refuse(file, 0, "is not a regular file", "name an XML file")
        with open(descriptor, "rb") as stream:
            descriptor = None
            text = stream.read(MAX_FILE_BYTES + 1)
    except OSError as err:
        _refuse(file, 0, f"cannot be read: {err.strerror}", "check the path and its permissions")
    except ValueError:
        _refuse(file, 0, "is no possible path", "it has a NUL character")
    finally:
        if descriptor is not None:
            os.close(descriptor)
    if len(text) > MAX_FILE_BYTES:
        _refuse(file, 0, f"is larger than {MAX_FILE_BYTES} bytes", "split it into several files of config.d")
    return text


def _check_text(file: str, text: bytes) -> None:
    """Refuse what must not reach the parser."""
    if not text.strip():
        _refuse(file, 0, "is empty", "reconfig needs a root element <glidein>")
    nul = text.find(b"\0")
    if nul >= 0:
        _refuse(file, _line_at(text, nul), "has a NUL byte", "save it as UTF-8 text")
    declared = _ENCODING.match(text.removeprefix(_BOM))
    encoding = declared[1].decode("ascii").lower() if declared else "utf-8"
    if encoding not in _ENCODINGS:
        _refuse(file, 1, f"declares the encoding {encoding!r}", "save it as UTF-8 text")
    try:
        text.decode(encoding)
    except UnicodeDecodeError as err:
        hint = "save it as UTF-8 text"
        _refuse(file, _line_at(text, err.start), f"has bytes that are not {encoding.upper()}", hint)
    doctype = _doctype(text)
    if doctype is not None:
        hint = "glideinWMS needs none; remove it"
        _refuse(file, _line_at(text, doctype), "has a document type (<!DOCTYPE), which is not read", hint)
    if text.count(b"<") > MAX_MARKUP:
        _refuse(file, 0, f"has more than {MAX_MARKUP} tags", "split it into several files of config.d")
    if text.count(b"=") > MAX_ASSIGNMENTS:
        _refuse(file, 0, f"has more than {MAX_ASSIGNMENTS} attributes", "split it into several files of config.d")


def _line_at(text: bytes, position: int) -> int:
    return text.count(b"\n", 0, position) + 1


def _doctype(text: bytes) -> Optional[int]:
    """Position of a document type; it can only stand before the root element, after comments and instructions."""
    position = len(_BOM) if text.startswith(_BOM) else 0
    while True:
        visible = _VISIBLE.search(text, position)
        if visible is None:
            return None
        position = visible.start()
        for start, end in ((b"<!--", b"-->"), (b"<?", b"?>")):
            if text.startswith(start, position):
                after = text.find(end, position + len(start))
                if after < 0:
                    return None
                position = after + len(end)
                break
        else:
            return position if text.startswith(b"<!DOCTYPE", position) else None


def _big_lines(text: bytes, root: etree._Element) -> Mapping[etree._Element, int]:
    """Lines of all elements, for a text that has more lines than libxml2 can count; otherwise nothing.

    By expat, which counts on; it gets only what lxml has accepted, so no DTD either.
    """
    if text.count(b"\n") < _MAX_LIBXML_LINE:
        return {}
    lines: list[int] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda _name, _attributes: lines.append(parser.CurrentLineNumber)
    try:
        parser.Parse(text, True)
    except expat.ExpatError:
        return {}
    return dict(zip(root.iter(etree.Element), lines))
