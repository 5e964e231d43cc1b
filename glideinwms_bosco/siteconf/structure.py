# SPDX-License-Identifier: Apache-2.0
"""What a site-local-config.xml has that the model cannot say: several sites, a full subsite, an order that matters."""

from __future__ import annotations

from lxml import etree

from glideinwms_bosco.siteconf.codes import Finding
from glideinwms_bosco.siteconf.xml_file import XmlFile, attribute, children, first, line_of


def structure_findings(source: XmlFile) -> list[Finding]:
    """Look at the document as it is written.

    Source: SiteLocalConfigService.cc (parse); WMCore SiteLocalConfig.py (processNode, processSite, processStageOut).
    """
    findings: list[Finding] = []

    def found(number: int, element: etree._Element, message: str) -> None:
        findings.append(Finding(source.file, line_of(element), number, message))

    sites = list(children(source.root, "site"))
    for second in sites[1:2]:
        found(5, second, f"there are {len(sites)} <site>")
    for site in sites[:1]:
        if not attribute(site, "name"):
            found(6, site, "<site> has no name")
        subsite = first(site, "subsite")
        if subsite is not None:
            # tinyxml2 keeps comments as children, and drops text that is all blank.
            if len(subsite) or (subsite.text or "").strip():
                found(7, subsite, f"<subsite> has {_what(subsite)} in it")
            if not attribute(subsite, "name"):
                found(9, subsite, "<subsite> has no name")
            stage_out = first(site, "stage-out")
            if stage_out is not None and site.index(stage_out) < site.index(subsite):
                found(8, subsite, f"<subsite> stands behind <stage-out> (line {line_of(stage_out)})")
        for element in children(first(site, "stage-out")):
            if element.tag != "method":
                found(18, element, f"<stage-out> has <{element.tag}>")
    return findings


def _what(element: etree._Element) -> str:
    if not len(element):
        return "text"
    child = element[0]
    return "a comment" if callable(child.tag) else f"<{child.tag}>"
