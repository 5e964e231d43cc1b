# SPDX-License-Identifier: Apache-2.0
"""Read one XML element that stands as text in a site file."""

from __future__ import annotations

from lxml import etree

from glideinwms_bosco.errors import SiteError


def parse_fragment(text: str) -> etree._Element:
    """Parse one element; comments, instructions, document types and entities other than XML's own are refused.

    Raises:
        SiteError: it is not exactly one well-formed element.
    """
    # An attribute value cannot hold `<`, so these two never are part of one.
    if "<!" in text or "<?" in text:
        raise SiteError("has a comment, document type or instruction", "keep elements and attributes only")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return etree.fromstring(text.encode("utf-8"), parser)
    except etree.XMLSyntaxError as err:
        raise SiteError(f"is not one XML element: {err.msg}", "see docs/site-file.md, `raw`") from None
