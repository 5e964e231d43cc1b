# SPDX-License-Identifier: Apache-2.0
"""Read and write PhEDEx/storage.xml, the trivial file catalog of old readers, and the URLs that name it.

Source: cms-sw/cmssw FWCore/Catalog/src/FileLocator.cc (old form); dmwm/WMCore
src/python/WMCore/Storage/TrivialFileCatalog.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from xml.sax.saxutils import quoteattr

from glideinwms_bosco.errors import SiteconfError
from glideinwms_bosco.siteconf.model import CatalogRule
from glideinwms_bosco.siteconf.text_file import refuse
from glideinwms_bosco.siteconf.xml_file import XmlFile, attribute, children, first, line_of, parse_xml, read_xml

LFN_TO_PFN = "lfn-to-pfn"
PFN_TO_LFN = "pfn-to-lfn"
_ROOT_TAG = "storage-mapping"
# A catalog out of PhEDEx's data service stands in one more element.
_WRAPPER_TAG = "phedex"


def read_catalog(path: Path) -> tuple[CatalogRule, ...]:
    """Read a file.

    Raises:
        SiteconfFileError: it cannot be read, or is no catalog.
    """
    return catalog_of(read_xml(path))


def parse_catalog(text: str, file: str) -> tuple[CatalogRule, ...]:
    """Read a file's text.

    Raises:
        SiteconfFileError: as `read_catalog`.
    """
    return catalog_of(parse_xml(text, file))


def catalog_of(source: XmlFile) -> tuple[CatalogRule, ...]:
    """Read a parsed file: its rules, in order.

    Raises:
        SiteconfFileError: it has no `<storage-mapping>`.
    """
    root = source.root
    mapping = first(root, _ROOT_TAG) if root.tag == _WRAPPER_TAG else root
    if mapping is None or mapping.tag != _ROOT_TAG:
        refuse(source.file, line_of(root), f"its root element is <{root.tag}>", f"a catalog is a <{_ROOT_TAG}>")
    return tuple(
        CatalogRule(
            kind=str(element.tag),
            protocol=attribute(element, "protocol") or "",
            path_match=attribute(element, "path-match") or "",
            result=attribute(element, "result") or "",
            chain=attribute(element, "chain") or None,
            destination_match=attribute(element, "destination-match") or None,
            line=line_of(element),
        )
        for element in children(mapping)
        if element.tag in (LFN_TO_PFN, PFN_TO_LFN)
    )


def write_catalog(rules: Iterable[CatalogRule]) -> bytes:
    """Write a file.

    Raises:
        SiteconfError: a value cannot stand in XML.
    """
    given = tuple(rules)
    lines = [f"<{_ROOT_TAG}>", *(f"  {_element(rule)}" for rule in given), f"</{_ROOT_TAG}>", ""]
    text = "\n".join(lines)
    if parse_catalog(text, "storage.xml") != given:
        raise SiteconfError("the storage.xml would not say what it should")
    return text.encode("utf-8")


def catalog_url(path: str, protocol: str) -> str:
    """The URL by which site-local-config.xml names a protocol of a catalog; `path` is absolute, on the node."""
    return f"trivialcatalog_file:{path}?protocol={protocol}"


def _element(rule: CatalogRule) -> str:
    rows = (
        ("protocol", rule.protocol),
        ("destination-match", rule.destination_match),
        ("path-match", rule.path_match),
        ("result", rule.result),
        ("chain", rule.chain),
    )
    attributes = "".join(f" {name}={quoteattr(value)}" for name, value in rows if value is not None)
    return f"<{rule.kind}{attributes}/>"
