# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco web-proxy ...`: what is planned, running and measured of every web proxy."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Optional

from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.frame import add_noun
from glideinwms_bosco.cli.settings import load_settings
from glideinwms_bosco.cli.web_proxies import overview, print_states
from glideinwms_bosco.errors import EXIT_OK, BoscoError
from glideinwms_bosco.remote.pilots import count_running, query_pilots


def add_commands(nouns: Any) -> None:
    """Add the noun and its verb."""
    verbs = add_noun(nouns, "web-proxy", "the load of web proxies", "gwms-bosco web-proxy show")
    show = verbs.add_parser(
        "show",
        help="show each web proxy of all sites: who may use it, who does, what pilots report; proposes lower limits",
        epilog="example: gwms-bosco web-proxy show --planned",
    )
    show.add_argument("--planned", action="store_true", help="only what site files say: ask no schedd and no pool")
    show.add_argument("--json", action="store_true", help="print it as JSON")
    show.set_defaults(run=_show)


def _show(args: argparse.Namespace) -> int:
    running, notes = (None, ()) if args.planned else _running()
    found = overview(load_settings(), running, measured=not args.planned)
    if args.json:
        output.print_json({**found.as_json(), "notes": [*notes, *found.notes]})
        return EXIT_OK
    if not found.states:
        print("no site names a web proxy or has pilots discover one")
    print_states(found.states, (*notes, *found.notes))
    return EXIT_OK


def _running() -> tuple[Optional[Mapping[str, int]], tuple[str, ...]]:
    try:
        return count_running(query_pilots()), ()
    except BoscoError as err:
        return None, (f"running pilots are not known: {err.message}",)
