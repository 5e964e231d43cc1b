# SPDX-License-Identifier: Apache-2.0
"""What a rule of `entry lint` gets, and where it puts what it finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from lxml import etree

from glideinwms_bosco.entry.configuration import Configuration, Place, child, elements
from glideinwms_bosco.entry.lint_codes import RULES
from glideinwms_bosco.entry.xml_source import EntryXml

GWMS_VERSIONS = ("3.10", "3.11")
_SHOWN_CHARS = 60


@dataclass(frozen=True)
class Finding:
    """One finding; `entry` is empty for what belongs to no entry, `line` 0 where no line can be named.

    Names stand in it as the file has them, so a terminal must not get it as it is.
    """

    file: str
    line: int
    severity: str
    code: str
    entry: str
    message: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        entry = f"entry {self.entry}: " if self.entry else ""
        return f"{where}: {self.severity}: [{self.code}] {entry}{self.message}; {self.remedy}"

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return dict(vars(self))


@dataclass(frozen=True, eq=False)
class Context:
    """What all rules share.

    Attributes:
        gwms_version: the glideinWMS the configuration is for, one of GWMS_VERSIONS.
        global_attrs: name -> the global attribute that counts.
        findings: everything found so far.
    """

    configuration: Configuration
    gwms_version: str
    global_attrs: dict[str, Place]
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Scope:
    """One element a rule looks at: an entry, an entry set or a whole file's `<glidein>`.

    Attributes:
        entry: the entry's name; empty for the file as a whole.
    """

    context: Context
    source: EntryXml
    element: etree._Element
    entry: str = ""

    def found(self, number: int, element: etree._Element, message: str, remedy: str = "", severity: str = "") -> None:
        """Note a finding at an element; remedy and severity are those of the table unless given."""
        rule = RULES[number]
        finding = Finding(
            self.source.file,
            self.source.line(element),
            severity or rule.severity,
            rule.code,
            self.entry,
            message,
            remedy or rule.remedy,
        )
        self.context.findings.append(finding)

    def get(self, name: str, default: str = "") -> str:
        """An attribute of the element."""
        return str(self.element.get(name, default))

    @property
    def batch(self) -> Optional[str]:
        """`slurm` for `batch slurm`; empty if nothing follows; None if this is no batch entry."""
        gridtype = self.get("gridtype").strip()
        return gridtype[len("batch") :].strip() if gridtype == "batch" or gridtype.startswith("batch ") else None

    def attr(self, name: str) -> Optional[etree._Element]:
        """The entry's first `<attr>` of that name, or else the global one."""
        # An entry of an entry set has the set's attributes: entry, entries, entry_set.
        owners = (self.element, *self.element.iterancestors("entry_set"))
        for owner in owners:
            for attr in elements(owner, "attrs", "attr"):
                if attr.get("name") == name:
                    return attr
        place = self.context.global_attrs.get(name)
        return None if place is None else place.element

    def path(self, *tags: str) -> Optional[etree._Element]:
        """A descendant by its path, of each section the one that counts."""
        found: Optional[etree._Element] = self.element
        for tag in tags:
            found = None if found is None else child(found, tag)
        return found


def shown(value: str) -> str:
    """A value as a message quotes it: one short line."""
    return repr(value if len(value) <= _SHOWN_CHARS else value[:_SHOWN_CHARS] + "...")
