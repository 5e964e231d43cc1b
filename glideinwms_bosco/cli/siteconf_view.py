# SPDX-License-Identifier: Apache-2.0
"""A SITECONF as tables: where jobs read, write and ask, and what becomes of one LFN."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from glideinwms_bosco.cli import output
from glideinwms_bosco.siteconf.explain import DEFAULT_COMMAND, READ, WRITE, Attempt
from glideinwms_bosco.siteconf.from_tree import Reference, Tree
from glideinwms_bosco.siteconf.lookup import Place, locate
from glideinwms_bosco.siteconf.model import StageOutMethod

_ATTEMPT_COLUMNS = ("READER", "TO", "NO", "PLACE", "PFN")
_TREE_COLUMNS = ("TO", "NO", "SITE", "VOLUME", "PROTOCOL", "HOW")


def print_attempts(attempts: Sequence[Attempt]) -> None:
    """Print one row for each thing that a reader would try, and the steps to it where there are several."""
    rows = [
        (attempt.reader, attempt.purpose, str(attempt.order), _place(attempt), attempt.pfn or f"none: {attempt.why}")
        for attempt in attempts
    ]
    _print_table(_ATTEMPT_COLUMNS, rows)
    for attempt in attempts:
        if len(attempt.steps) > 1:
            for step in attempt.steps:
                print(output.printable(f"{attempt.reader} {attempt.purpose} {attempt.order}: {step}"))


def _place(attempt: Attempt) -> str:
    place = " ".join(filter(None, (attempt.site, attempt.volume, attempt.protocol)))
    return f"{place}, {attempt.command}" if attempt.command else place


def print_tree(tree: Tree) -> None:
    """Print where jobs read and write, then what they ask for conditions, then the files."""
    rows = []
    for row in _references(tree):
        how = row["command"] or row["prefix"]
        rows.append((row["to"], str(row["order"]), row["site"], row["volume"], row["protocol"], how))
    _print_table(_TREE_COLUMNS, rows)
    for name, values in _conditions(tree).items():
        for value in values:
            print(output.printable(f"{name}: {value}"))
    for site, file in tree.storage_files.items():
        print(output.printable(f"storage of {site}: {file}"))
    for finding in tree.findings:
        print(output.printable(str(finding)))


def as_json(tree: Tree) -> dict[str, Any]:
    """The same as plain values."""
    config = tree.siteconf.config
    return {
        "site": config.site,
        "subsite": config.subsite,
        "file": tree.config_file,
        "references": list(_references(tree)),
        "conditions": {name: list(values) for name, values in _conditions(tree).items()},
        "source_config": asdict(config.source_config) if config.source_config else None,
        "storage": dict(tree.storage_files),
        "findings": [finding.as_json() for finding in tree.findings],
    }


def _references(tree: Tree) -> Iterator[dict[str, Any]]:
    config = tree.siteconf.config
    lists: tuple[tuple[str, Sequence[Reference]], ...] = ((READ, config.data_access), (WRITE, config.stage_out))
    for purpose, references in lists:
        for order, reference in enumerate(references, 1):
            place = locate(tree, reference)
            protocols = place.item.protocols if isinstance(place, Place) else ()
            prefixes = [offered.prefix for offered in protocols if offered.protocol == reference.protocol]
            command = (reference.command or DEFAULT_COMMAND) if isinstance(reference, StageOutMethod) else ""
            yield {
                "to": purpose,
                "order": order,
                "site": tree.storage_site(reference),
                "volume": reference.volume,
                "protocol": reference.protocol,
                "command": command,
                "prefix": next((prefix or "by rules" for prefix in prefixes), "nowhere"),
                "line": reference.line,
            }


def _conditions(tree: Tree) -> dict[str, tuple[str, ...]]:
    config = tree.siteconf.config
    if config.frontier is None:
        connect = config.local_connect
        return {} if connect is None else {"connect strings": (f"{connect.prefix}...{connect.suffix}",)}
    frontier = config.frontier
    failover = "no" if frontier.failover_to_server is False else "yes"
    return {
        "proxy": frontier.proxies,
        "proxy config": frontier.proxy_configs,
        "backup proxy": frontier.backup_proxies,
        "server": frontier.servers,
        "servers asked directly": (failover,),
    }


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    safe = [[output.printable(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(map(len, column)) for column in zip(*safe)]
    for row in safe:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths)).rstrip())
