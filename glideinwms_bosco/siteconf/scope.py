# SPDX-License-Identifier: Apache-2.0
"""What a rule of `siteconf check` gets, and where it puts what it finds."""

from __future__ import annotations

from dataclasses import dataclass, field

from glideinwms_bosco.siteconf.codes import Finding
from glideinwms_bosco.siteconf.from_tree import Tree
from glideinwms_bosco.siteconf.model import SiteLocalConfig

_SHOWN_CHARS = 80


@dataclass(frozen=True)
class Scope:
    """A tree and the findings so far.

    Attributes:
        pilot_proxies: whether pilots add the web proxies that they find.
    """

    tree: Tree
    pilot_proxies: bool = False
    findings: list[Finding] = field(default_factory=list)

    @property
    def config(self) -> SiteLocalConfig:
        """The site-local-config.xml."""
        return self.tree.siteconf.config

    def found(self, number: int, line: int, message: str, file: str = "") -> None:
        """Note a finding; in site-local-config.xml unless another file is named."""
        self.findings.append(Finding(file or self.tree.config_file, line, number, message))

    def line(self, name: str) -> int:
        """Where a part of site-local-config.xml stands; that of `<site>` for a part that is not there."""
        lines = self.config.lines
        return lines.get(name) or lines.get("site", 0)


def shown(value: str) -> str:
    """A value as a message quotes it: one short line."""
    return repr(value if len(value) <= _SHOWN_CHARS else value[:_SHOWN_CHARS] + "...")
