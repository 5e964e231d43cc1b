# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco entry ...`: factory entry XML."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.selection import select_sites
from glideinwms_bosco.cli.settings import load_settings
from glideinwms_bosco.entry.render import file_name
from glideinwms_bosco.entry.write import has_content, write_entry_file
from glideinwms_bosco.errors import EXIT_OK


def add_commands(nouns: Any) -> None:
    """Add the noun and its verbs."""
    verbs = nouns.add_parser("entry", help="factory entry XML").add_subparsers(metavar="VERB", required=True)
    render = verbs.add_parser(
        "render",
        help="write the entries of sites into config.d",
        epilog="example: gwms-bosco entry render nersc --dry-run",
    )
    render.add_argument("sites", nargs="*", metavar="SITE", help="short name or file; all sites when left out")
    render.add_argument("--output", type=Path, metavar="DIR", help="write there, not to config.d")
    how = render.add_mutually_exclusive_group()
    how.add_argument("--stdout", action="store_true", help="print the XML, write nothing")
    render.add_argument("--dry-run", action="store_true", help="say what would be written, write nothing")
    how.add_argument("--json", action="store_true", help="print what was written as JSON")
    render.set_defaults(run=_render)


def _render(args: argparse.Namespace) -> int:
    settings = load_settings()
    checked = select_sites(args.sites, settings)
    folder = args.output or settings.config_d
    report: list[dict[str, Any]] = []
    for site, text in zip(checked.sites, checked.entry_xml):
        if args.stdout:
            sys.stdout.write(text.decode("utf-8"))
            continue
        path = folder / file_name(site, settings.order)
        if args.dry_run:
            action = "unchanged" if has_content(path, text) else "would write"
        else:
            action = "written" if write_entry_file(path, text) else "unchanged"
        report.append({"file": str(path), "entries": len(site.entries), "action": action})
    if args.json:
        output.print_json(report)
    else:
        for row in report:
            print(f"{row['action']}: {row['file']} ({output.counted(row['entries'], 'entry', 'entries')})")
    return EXIT_OK
