# SPDX-License-Identifier: Apache-2.0
"""Find what an import leaves behind: what glideinWMS does not read, and what stands outside the entries."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Optional, cast

from lxml import etree

from glideinwms_bosco.entry import configuration
from glideinwms_bosco.entry.configuration import child, elements
from glideinwms_bosco.entry.meaning import FILES, LIST_KEYS

_ENTRY_NAME = re.compile(r"""<entry\b[^<>]*?\bname\s*=\s*["']([^"'<>]*)""")
_NAMED = 5
"""Items of a section that are named; of more, the number is given."""
_SHOWN = 40
"""Characters of a value that are shown."""
_NOT_READ = "glideinWMS does not read it"

Line = Callable[[etree._Element], int]
"""1-based line of an element or comment, 0 if not known."""


@dataclass(frozen=True)
class Left:
    """Something that no site file holds.

    Attributes:
        what: what it is (`<attrs>`, `2 comments`).
        line: where it stands, or the first of it; 0 if not known.
        why: what it held, and why it is not imported.
        entry: the entry it stands in; None outside entries.
    """

    what: str
    line: int
    why: str
    entry: Optional[str] = None


def source_line(element: etree._Element) -> int:
    """Line as the parser knows it."""
    return cast(Optional[int], element.sourceline) or 0


def left_behind(root: etree._Element, names: Sequence[str] = (), line: Line = source_line) -> tuple[Left, ...]:
    """Find what is not imported of a `<glidein>` element.

    Args:
        root: the root element of a file.
        names: the entries wanted; all when empty.
        line: gives the line of an element.

    Returns:
        In the order of the lines.
    """
    found = [*_of_root(root, line), *_comments(root, line)]
    for entry in elements(root, "entries", "entry"):
        name = str(entry.get("name"))
        if not names or name in names:
            found += _unread(entry, name, line)
    return tuple(sorted(found, key=lambda item: item.line))


def _of_root(root: etree._Element, line: Line) -> Iterator[Left]:
    if root.attrib:
        held = ", ".join(str(name) for name in root.attrib)
        yield Left("attributes of <glidein>", line(root), f"{held}; they stay where they are")
    for element in root.iterchildren(tag=etree.Element):
        tag = str(element.tag)
        if child(root, tag) is not element:
            yield Left(f"<{tag}>", line(element), _not_read(element))
        elif tag == "entry_sets":
            yield Left(f"<{tag}>", line(element), f"{_held(element)}entry sets are not imported; they stay there")
        elif tag != "entries":
            yield Left(f"<{tag}>", line(element), f"{_held(element)}is not part of an entry; it stays there")


def _comments(root: etree._Element, line: Line) -> Iterator[Left]:
    comments = [
        *reversed(list(root.itersiblings(etree.Comment, preceding=True))),
        *root.iter(etree.Comment),
        *root.itersiblings(etree.Comment),
    ]
    if comments:
        what = "1 comment" if len(comments) == 1 else f"{len(comments)} comments"
        yield Left(what, line(comments[0]), "comments are not imported")
    for comment in comments:
        for name in _ENTRY_NAME.findall(comment.text or ""):
            yield Left(f"<entry> {name}", line(comment), "stands in a comment")


def _unread(element: etree._Element, entry: str, line: Line) -> Iterator[Left]:
    """What does not count of an entry, at any depth."""
    key = LIST_KEYS.get(str(element.tag))
    children = list(element.iterchildren(tag=etree.Element))
    last = {_name(item, key): item for item in children}
    for item in children:
        winner = last[_name(item, key)]
        if key is not None and not any(part.attrib for part in item.iter(etree.Element)):
            yield Left(_label(item), line(item), "says nothing", entry)
        elif winner is item or element.tag == FILES:
            yield from _unread(item, entry, line)
        elif key is None:
            yield Left(_label(item), line(item), _not_read(item), entry)
        else:
            yield Left(_label(item), line(item), f"the later one of that name counts, line {line(winner)}", entry)


def _name(element: etree._Element, key: Optional[str]) -> str:
    return str(element.tag) if key is None else element.get(key) or ""


def _label(element: etree._Element) -> str:
    """`<attr> NAME`, `<attr> without a name`, `<config>`."""
    parent = element.getparent()
    keys = None if parent is None else configuration.LIST_KEYS.get(str(parent.tag))
    if keys is None:
        return f"<{element.tag}>"
    name = " ".join(element.get(key) or "" for key in keys).strip()
    return f"<{element.tag}> {name or 'without a name'}"


def _not_read(element: etree._Element) -> str:
    return f"{_held(element)}{_NOT_READ}: of two, the last one counts"


def _held(element: etree._Element) -> str:
    """`with x="1", A, B; `: what an element holds, in short."""
    items = [f'{name!s}="{str(value)[:_SHOWN]}"' for name, value in element.attrib.items()]
    for item in element.iterchildren(tag=etree.Element):
        items.append(_label(item))
    if not items:
        return ""
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return f"with {', '.join(items[:_NAMED])}{more}; "
