# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco entry enable|disable|drain|remove|states`: the life of entries beside their site files."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from lxml import etree

from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.checks import checked_sites
from glideinwms_bosco.cli.publishing import Selected, is_disabled, live_files, publish
from glideinwms_bosco.cli.selection import expected_files, site_files
from glideinwms_bosco.cli.settings import Settings, load_settings
from glideinwms_bosco.entry.lifecycle import Record, State, next_state
from glideinwms_bosco.entry.state_file import load_states, new_record
from glideinwms_bosco.errors import EXIT_OK, EntryError, SiteFileError, UsageError
from glideinwms_bosco.site.load import load_site

_HELP = {
    "enable": "back to what the site file says",
    "disable": 'render as enabled="False": the factory neither submits nor looks after its pilots',
    "drain": "submit no new pilots; the factory looks after those at the batch system",
    "remove": "first step: disable; second step, with --reconfigured: leave it out",
}


def add_verbs(verbs: Any) -> None:
    """Add the verbs of the life cycle to the noun `entry`."""
    for verb, text in _HELP.items():
        parser = verbs.add_parser(verb, help=text, epilog=f"example: gwms-bosco entry {verb} CMSHTPC_T3_US_NERSC")
        parser.add_argument("entry", metavar="ENTRY", help="name of the entry")
        parser.add_argument("--json", action="store_true", help="print what was done as JSON")
        parser.set_defaults(run=_change, verb=verb, reconfigured=False)
        if verb == "remove":
            parser.add_argument("--reconfigured", action="store_true", help="a reconfig has seen it disabled")
    states = verbs.add_parser(
        "states", help="list entries that are not simply active", epilog="example: gwms-bosco entry states"
    )
    states.add_argument("--json", action="store_true", help="print them as JSON")
    states.set_defaults(run=_states)


def _change(args: argparse.Namespace) -> int:
    settings = load_settings()
    reached: list[State] = []

    def change(states: Mapping[str, Record], selected: Selected) -> dict[str, Record]:
        described = {entry.name for site in selected.checked.sites for entry in site.entries}
        if args.verb in ("enable", "drain") and args.entry not in described:
            raise EntryError(
                f"entry {args.entry} has left its site file and is kept as a disabled copy", "put it back there"
            )
        now = states[args.entry].state if args.entry in states else State.ACTIVE
        disabled = is_disabled(settings, args.entry)
        reached.append(next_state(args.entry, args.verb, now, reconfigured=args.reconfigured, disabled=disabled))
        return dict(states) if reached[0] is now else {**states, args.entry: new_record(reached[0])}

    outcome = publish(
        settings,
        partial(_sites_with, args.entry, settings),
        f"entry {args.verb} {args.entry}",
        folder=settings.config_d,
        change=change,
    )
    if args.json:
        output.print_json({"entry": args.entry, "state": reached[0].value, **asdict(outcome)})
        return EXIT_OK
    print(f"{args.entry}: {reached[0].value}")
    output.print_published(outcome)
    if reached[0] is State.REMOVING:
        print(f"next: reconfigure the factory, then `gwms-bosco entry remove {args.entry} --reconfigured`")
    if reached[0] is State.ACTIVE and is_disabled(settings, args.entry):
        print(f"note: the site file itself has {args.entry} as disabled")
    return EXIT_OK


def _sites_with(entry: str, settings: Settings) -> Selected:
    """The site that has the entry. For an entry that is left only in config.d: the site of that file, or the file.

    Raises:
        UsageError: neither site files nor config.d know it.
        SiteFileError: its site file has problems.
    """
    everything = site_files(settings)
    files = expected_files(settings)
    for path in everything:
        try:
            site = load_site(path)[0]
        except SiteFileError:
            continue
        if any(found.name == entry for found in site.entries):
            return Selected(checked_sites([path], everything, factory=settings), files)
    for name, text in live_files(settings.config_d).items():
        if entry in {found.get("name") for found in etree.fromstring(text).findall("./entries/entry")}:
            paths = [path for path in everything if name == f"{settings.order:02d}-{path.stem}.xml"]
            return Selected(checked_sites(paths, everything, factory=settings), files)
    raise UsageError(
        f"no entry {entry[:80]!r} in {settings.sites_dir} or {settings.config_d}", "is its site file valid?"
    )


def _states(args: argparse.Namespace) -> int:
    states = load_states(load_settings().state_dir)
    if args.json:
        rows = {name: {"state": r.state.value, "since": r.since, "by": r.by} for name, r in sorted(states.items())}
        output.print_json(rows)
        return EXIT_OK
    width = max([len(name) for name in states], default=0)
    for name, record in sorted(states.items()):
        print(f"{name:<{width}}  {record.state.value:<9}  {record.since}  {record.by}")
    if not states:
        print("every entry is active")
    return EXIT_OK
