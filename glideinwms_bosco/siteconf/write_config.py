# SPDX-License-Identifier: Apache-2.0
"""Write a site-local-config.xml out of the model: in one piece, or in two around what a pilot finds on the node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Optional, Union
from xml.sax.saxutils import quoteattr

from glideinwms_bosco.errors import SiteconfError
from glideinwms_bosco.siteconf.model import (
    CatalogRef,
    Frontier,
    LocalStageOut,
    SiteLocalConfig,
    SourceConfig,
    StageOutMethod,
)
from glideinwms_bosco.siteconf.read_config import FRONTIER_LISTS, NO, ROOT_TAG, SOURCE_CONFIG_VALUES, parse_config

_INDENT = "  "
_Line = tuple[int, str]
"""Depth, text."""
# Stands where found proxies belong; never written.
_CUT: _Line = (-1, "")


def write_config(config: SiteLocalConfig) -> bytes:
    """Write the whole document, UTF-8.

    Raises:
        SiteconfError: a value cannot stand in XML.
    """
    text = _text(line for line in _document(config) if line is not _CUT)
    try:
        again = parse_config(text, "site-local-config.xml")
    except SiteconfError as err:
        raise SiteconfError(f"the site-local-config.xml of {config.site} cannot be written: {err.message}") from None
    if again != _without_empty(config):
        raise SiteconfError(f"the site-local-config.xml of {config.site} would not say what it should")
    return text.encode("utf-8")


def write_pieces(config: SiteLocalConfig) -> Optional[tuple[bytes, bytes]]:
    """Write the document in two pieces, head and tail.

    They are cut in `<frontier-connect>`, before its first proxy: what is put between them is asked first.

    Returns:
        None for a document without `<frontier-connect>`.

    Raises:
        SiteconfError: a value cannot stand in XML.
    """
    lines = list(_document(config))
    if _CUT not in lines:
        return None
    whole, cut = write_config(config), lines.index(_CUT)
    head, tail = (_text(part).encode("utf-8") for part in (lines[:cut], lines[cut + 1 :]))
    if head + tail != whole:
        raise SiteconfError(f"the site-local-config.xml of {config.site} cannot be cut")
    return head, tail


def _without_empty(config: SiteLocalConfig) -> SiteLocalConfig:
    """What reading gives back: an empty name of a subsite is none."""
    return replace(config, subsite=config.subsite or None)


def _text(lines: Iterable[_Line]) -> str:
    return "".join(f"{_INDENT * depth}{text}\n" for depth, text in lines)


def _tag(name: str, *attributes: tuple[str, Optional[str]], open_: bool = False) -> str:
    pairs = "".join(f" {key}={quoteattr(value)}" for key, value in attributes if value is not None)
    return f"<{name}{pairs}{'>' if open_ else '/>'}"


def _document(config: SiteLocalConfig) -> Iterator[_Line]:
    yield 0, f"<{ROOT_TAG}>"
    yield 1, _tag("site", ("name", config.site), open_=True)
    # First of all: WMCore reads the stage-outs with the subsite that it has met so far.
    if config.subsite:
        yield 2, _tag("subsite", ("name", config.subsite))
    yield from _block("event-data", (_tag("catalog", ("url", url)) for url in config.event_data))
    yield from _block("data-access", (_reference("catalog", ref) for ref in config.data_access))
    if config.local_stage_out is not None:
        yield from _old("local-stage-out", config.local_stage_out)
    yield from _block("stage-out", (_reference("method", ref) for ref in config.stage_out))
    for old in config.fallback_stage_outs:
        yield from _old("fallback-stage-out", old)
    yield from _calib_data(config)
    if config.source_config is not None:
        yield from _source_config(config.source_config)
    yield 1, "</site>"
    yield 0, f"</{ROOT_TAG}>"


def _block(name: str, tags: Iterator[str]) -> Iterator[_Line]:
    """An element with its children; nothing when it has none."""
    inner = list(tags)
    if inner:
        yield 2, f"<{name}>"
        yield from ((3, tag) for tag in inner)
        yield 2, f"</{name}>"


def _reference(name: str, ref: Union[CatalogRef, StageOutMethod]) -> str:
    attributes: list[tuple[str, Optional[str]]] = [(key, getattr(ref, key)) for key in ("site", "volume", "protocol")]
    if isinstance(ref, StageOutMethod):
        attributes += [("command", ref.command), ("option", ref.option)]
    return _tag(name, *attributes)


def _old(name: str, old: LocalStageOut) -> Iterator[_Line]:
    rows = (
        ("command", "value", old.command),
        ("option", "value", old.option),
        ("catalog", "url", old.catalog_url),
        ("lfn-prefix", "value", old.lfn_prefix),
        ("se-name", "value", old.se_name),
        ("phedex-node", "value", old.phedex_node),
    )
    yield 2, f"<{name}>"
    yield from ((3, _tag(element, (key, value))) for element, key, value in rows if value is not None)
    yield 2, f"</{name}>"


def _calib_data(config: SiteLocalConfig) -> Iterator[_Line]:
    connect = config.local_connect
    if config.frontier is None and connect is None:
        return
    yield 2, "<calib-data>"
    if config.frontier is not None:
        yield from _frontier(config.frontier)
    if connect is not None:
        yield 3, "<local-connect>"
        yield 4, _tag("connectString", ("prefix", connect.prefix), ("suffix", connect.suffix))
        yield 3, "</local-connect>"
    yield 2, "</calib-data>"


def _frontier(frontier: Frontier) -> Iterator[_Line]:
    failover = frontier.failover_to_server
    yield 3, "<frontier-connect>"
    if frontier.load_balance is not None:
        yield 4, _tag("load", ("balance", frontier.load_balance))
    if failover is not None:
        yield 4, _tag("failover", ("toserver", "yes" if failover else NO))
    if frontier.prefer_ip_family is not None:
        yield 4, _tag("prefer", ("ipfamily", frontier.prefer_ip_family))
    yield _CUT
    for field, name in FRONTIER_LISTS.items():
        yield from ((4, _tag(name, ("url", url))) for url in getattr(frontier, field))
    yield from ((4, _tag(name, *attributes)) for name, attributes in frontier.others)
    yield 3, "</frontier-connect>"


def _source_config(source: SourceConfig) -> Iterator[_Line]:
    yield 2, "<source-config>"
    for field, (name, key) in SOURCE_CONFIG_VALUES.items():
        value = getattr(source, field)
        if value is not None:
            yield 3, _tag(name, (key, value))
    if source.native_protocols:
        yield 3, "<native-protocols>"
        yield from ((4, _tag("protocol", ("prefix", prefix))) for prefix in source.native_protocols)
        yield 3, "</native-protocols>"
    if source.statistics_destination is not None or source.statistics_info is not None:
        where, info = source.statistics_destination, source.statistics_info
        # Old releases read `name`, newer ones `endpoint` first.
        yield 3, _tag("statistics-destination", ("name", where), ("endpoint", where), ("info", info))
    yield 2, "</source-config>"
