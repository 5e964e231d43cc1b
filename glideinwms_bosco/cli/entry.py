# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco entry ...`: factory entry XML, rendered, compared, and its life cycle."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from lxml import etree

from glideinwms_bosco.cli import entry_import, entry_lint, entry_show, entry_state, output
from glideinwms_bosco.cli.checks import Checked
from glideinwms_bosco.cli.frame import add_noun
from glideinwms_bosco.cli.publishing import Selected, live_files, plan, publish, refuse_errors
from glideinwms_bosco.cli.selection import expected_files, select_sites, site_files
from glideinwms_bosco.cli.settings import Settings, load_settings
from glideinwms_bosco.entry.compare import compare_entries
from glideinwms_bosco.entry.lifecycle import apply_states
from glideinwms_bosco.entry.meaning import Meaning, entry_meanings
from glideinwms_bosco.entry.publish import Publication
from glideinwms_bosco.entry.state_file import load_states
from glideinwms_bosco.errors import EXIT_OK, EntryError


def add_commands(nouns: Any) -> None:
    """Add the noun and its verbs."""
    verbs = add_noun(nouns, "entry", "factory entry XML", "gwms-bosco entry diff")
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
    render.add_argument("--all-gone", action="store_true", help="with no site file left: disable all their entries")
    render.set_defaults(run=_render)
    diff = verbs.add_parser(
        "diff",
        help="say what a render would change in the live config.d, entry by entry",
        epilog="example: gwms-bosco entry diff nersc",
    )
    diff.add_argument("sites", nargs="*", metavar="SITE", help="short name or file; all sites when left out")
    diff.add_argument("--json", action="store_true", help="print the changes as JSON")
    diff.set_defaults(run=_diff, all_gone=True)
    entry_show.add_show(verbs)
    entry_state.add_verbs(verbs)
    entry_lint.add_lint(verbs)
    entry_import.add_import(verbs)


def _select(args: argparse.Namespace, settings: Settings) -> Selected:
    """The named sites, or all of the host; none at all is no error where nothing of ours is in config.d.

    Raises:
        EntryError: the last site file has gone, and nobody has said that this is meant.
    """
    files = expected_files(settings)
    if not args.sites and not site_files(settings):
        left = live_files(settings.config_d)
        if left and not args.all_gone:
            hint = "if that is meant: `gwms-bosco entry render --all-gone`"
            names = ", ".join(left)
            raise EntryError(f"{settings.sites_dir} has no site file, and config.d has {names} of ours", hint)
        return Selected(Checked((), (), ()), files, complete=True)
    return Selected(select_sites(args.sites, settings), files, complete=not args.sites)


def _render(args: argparse.Namespace) -> int:
    settings = load_settings()
    if args.stdout:
        states = {name: record.state for name, record in load_states(settings.state_dir).items()}
        for xml in select_sites(args.sites, settings).entry_xml:
            sys.stdout.write(apply_states(xml, states).decode("utf-8"))
        return EXIT_OK
    outcome = publish(
        settings,
        partial(_select, args, settings),
        "entry render",
        folder=args.output or settings.config_d,
        dry_run=args.dry_run,
        inspect=partial(_refuse_errors, settings) if args.lint else None,
    )
    if args.json:
        output.print_json(asdict(outcome))
    elif outcome.files:
        output.print_published(outcome)
    else:
        print(f"nothing to do: no site file (*.yaml) in {settings.sites_dir}")
    return EXIT_OK


def _refuse_errors(settings: Settings, publication: Publication, selected: Selected) -> None:
    refuse_errors(settings, publication, selected.checked.pilot_files)


def _diff(args: argparse.Namespace) -> int:
    settings = load_settings()
    live, publication = plan(settings, _select(args, settings), load_states(settings.state_dir), settings.config_d)
    concerned = {name: text for name, text in live.items() if name in {*publication.files, *publication.deletes}}
    changes = compare_entries(_meanings(list(concerned.values())), _meanings(list(publication.files.values())))
    if args.json:
        output.print_json([asdict(change) for change in changes])
        return EXIT_OK
    for change in changes:
        print(output.printable(f"{change.action}: {change.name}"))
        for detail in change.details:
            print(output.printable(f"  {detail}"))
    if not changes:
        entries = len(_meanings(list(publication.files.values())))
        print(f"no changes in {output.counted(entries, 'entry', 'entries')}")
    return EXIT_OK


def _meanings(files: Sequence[bytes]) -> dict[str, Meaning]:
    found: dict[str, Meaning] = {}
    for text in files:
        found.update(entry_meanings(etree.fromstring(text)))
    return found
