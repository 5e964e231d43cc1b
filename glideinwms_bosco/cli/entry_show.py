# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco entry show`: one entry as it is rendered, or as reconfig will see it."""

from __future__ import annotations

import argparse
import difflib
from pathlib import Path
from typing import Any

from lxml import etree

from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.settings import Settings, load_settings
from glideinwms_bosco.entry.configuration import MAIN_FILE, Configuration, MergedEntry, merged_root, read_configuration
from glideinwms_bosco.entry.defaults import with_defaults
from glideinwms_bosco.entry.meaning import entry_meanings
from glideinwms_bosco.errors import EXIT_OK, FileProblemsError, UsageError


def add_show(verbs: Any) -> None:
    """Add the verb `show` to `entry`."""
    parser = verbs.add_parser(
        "show",
        help="show an entry of the live configuration and where it stands",
        epilog="example: gwms-bosco entry show CMSHTPC_T3_US_NERSC --merged",
    )
    parser.add_argument("entry", metavar="ENTRY", help="name of the entry")
    parser.add_argument("--merged", action="store_true", help="value by value, after merging and with defaults")
    parser.add_argument(
        "--configuration", type=Path, metavar="PATH", help="glideinWMS.xml or folder (default: the factory's)"
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=_show)


def factory_configuration(settings: Settings) -> Path:
    """The factory's glideinWMS.xml if it is beside config.d, else config.d alone."""
    main = settings.config_d.parent / MAIN_FILE
    return main if main.is_file() else settings.config_d


def _show(args: argparse.Namespace) -> int:
    path = args.configuration or factory_configuration(load_settings())
    configuration = read_configuration([path])
    if configuration.problems:
        raise FileProblemsError(configuration.problems)
    found = next((entry for entry in configuration.entries() if entry.name == args.entry), None)
    if found is None:
        raise UsageError(f"{path} has no entry {args.entry[:80]!r}", _similar(args.entry, configuration))
    meaning, filled = with_defaults(entry_meanings(merged_root(configuration))[args.entry])
    if args.json:
        replaced = [str(place) for place in found.replaced]
        values = {name: {"value": value, "default": name in filled} for name, value in meaning.items()}
        output.print_json({"entry": found.name, "from": str(found.winner), "replaces": replaced, "values": values})
        return EXIT_OK
    _print_places(found)
    if not args.merged:
        print(etree.tostring(found.winner.element, encoding="unicode").strip())
        return EXIT_OK
    width = max(len(name) for name in meaning)
    for name, value in sorted(meaning.items()):
        print(output.printable(f"{name:<{width}}  {value}{'  (default)' if name in filled else ''}"))
    return EXIT_OK


def _similar(name: str, configuration: Configuration) -> str:
    close = difflib.get_close_matches(name, [entry.name for entry in configuration.entries()], 3)
    return f"did you mean {' or '.join(close)}?" if close else "entries of an entry set are not shown"


def _print_places(found: MergedEntry) -> None:
    print(f"# from {found.winner}")
    for place in found.replaced:
        print(f"# replaces {place}, of which nothing is left")
    for place in found.twins:
        print(f"# stands again at {place} in the same file, which reconfig mixes")
