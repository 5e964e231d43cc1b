# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco entry ...`: factory entry XML, rendered, compared, and its life cycle."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from lxml import etree

from glideinwms_bosco.cli import entry_import, entry_lint, entry_show, entry_state, output
from glideinwms_bosco.cli.publishing import live_files, publish, refuse_errors
from glideinwms_bosco.cli.selection import select_sites
from glideinwms_bosco.cli.settings import load_settings
from glideinwms_bosco.entry.compare import compare_entries
from glideinwms_bosco.entry.lifecycle import apply_states
from glideinwms_bosco.entry.meaning import Meaning, entry_meanings
from glideinwms_bosco.entry.render import file_name
from glideinwms_bosco.entry.state_file import load_states
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
    render.add_argument("--lint", action="store_true", help="refuse when the configuration would have errors")
    render.set_defaults(run=_render)
    diff = verbs.add_parser(
        "diff",
        help="say what a render would change in the live config.d, entry by entry",
        epilog="example: gwms-bosco entry diff nersc",
    )
    diff.add_argument("sites", nargs="*", metavar="SITE", help="short name or file; all sites when left out")
    diff.add_argument("--json", action="store_true", help="print the changes as JSON")
    diff.set_defaults(run=_diff)
    entry_show.add_show(verbs)
    entry_state.add_verbs(verbs)
    entry_lint.add_lint(verbs)
    entry_import.add_import(verbs)


def _render(args: argparse.Namespace) -> int:
    settings = load_settings()
    checked = select_sites(args.sites, settings)
    if args.stdout:
        states = {name: record.state for name, record in load_states(settings.state_dir).items()}
        for xml in checked.entry_xml:
            sys.stdout.write(apply_states(xml, states).decode("utf-8"))
        return EXIT_OK
    outcome = publish(
        settings,
        checked,
        "entry render",
        folder=args.output or settings.config_d,
        lost=() if args.sites else None,
        dry_run=args.dry_run,
        inspect=partial(refuse_errors, settings) if args.lint else None,
    )
    if args.json:
        output.print_json(asdict(outcome))
        return EXIT_OK
    output.print_published(outcome.files, outcome.carried, outcome.left_out)
    return EXIT_OK


def _diff(args: argparse.Namespace) -> int:
    settings = load_settings()
    checked = select_sites(args.sites, settings)
    states = {name: record.state for name, record in load_states(settings.state_dir).items()}
    live = live_files(settings.config_d)
    before: dict[str, Meaning] = {}
    after: dict[str, Meaning] = {}
    for site, xml in zip(checked.sites, checked.entry_xml):
        name = file_name(site, settings.order)
        before.update(entry_meanings(etree.fromstring(live[name])) if name in live else {})
        after.update(entry_meanings(etree.fromstring(apply_states(xml, states))))
    changes = compare_entries(before, after)
    if args.json:
        output.print_json([asdict(change) for change in changes])
        return EXIT_OK
    for change in changes:
        print(output.printable(f"{change.action}: {change.name}"))
        for detail in change.details:
            print(output.printable(f"  {detail}"))
    if not changes:
        print(f"no changes in {output.counted(len(after), 'entry', 'entries')}")
    return EXIT_OK
