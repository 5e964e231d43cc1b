# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco pilot script`: one bash script that starts an entry's pilot by hand, where nothing else is allowed."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from glideinwms_bosco.atomic import write_atomic
from glideinwms_bosco.cli.selection import select_sites
from glideinwms_bosco.cli.settings import Settings, load_settings
from glideinwms_bosco.errors import EXIT_OK, PilotError, UsageError
from glideinwms_bosco.pilot.by_hand import MAX_STARTUP_BYTES, PLACES, ByHand, hand_script
from glideinwms_bosco.pilot.factory_dir import (
    DEFAULT_FACTORY_DIR,
    FACTORY_DIR_VARIABLE,
    choose_request,
    pilot_arguments,
    read_requests,
    read_startup,
)
from glideinwms_bosco.site.job_wrapper import needs_job_wrapper
from glideinwms_bosco.site.model import SiteDescription

MAX_REQUEST_BYTES = 64 * 1024 * 1024
_SCRIPT_MODE = 0o755
_ASK = "condor_status -any -long -constraint 'MyType==\"glideclient\"'"


def add_commands(verbs: Any) -> None:
    """Add the verb."""
    script = verbs.add_parser(
        "script",
        help="print one bash script that starts an entry's pilot from a login shell or an interactive allocation",
        epilog="example: gwms-bosco pilot script JSC_Juwels --request ads > pilot.sh; at the site: bash pilot.sh "
        "--token ~/pool.token",
    )
    script.add_argument("entry", metavar="ENTRY", help="name of the entry")
    script.add_argument(
        "--request", metavar="FILE", help=f"what frontends ask the factory for: output of {_ASK}; `-`: standard input"
    )
    script.add_argument("--frontend", default="", metavar="NAME", help="whose request, when there are several")
    script.add_argument("--group", default="", metavar="NAME", help="of which of the frontend's groups")
    script.add_argument(
        "--factory-dir",
        type=Path,
        metavar="DIR",
        help=f"the factory's work folder (default: ${FACTORY_DIR_VARIABLE}, else {DEFAULT_FACTORY_DIR})",
    )
    script.add_argument(
        "--startup", type=Path, metavar="FILE", help="another program in place of the factory's glidein_startup.sh"
    )
    script.add_argument("--output", type=Path, metavar="FILE", help="write it there, executable; printed when left out")
    script.add_argument(
        "--arguments",
        nargs=argparse.REMAINDER,
        metavar="ARGUMENT",
        help="the last option: all that follows are the start-up program's arguments, in place of the factory's; "
        f"{', '.join(PLACES)} stand for files at the site",
    )
    script.set_defaults(run=_script)


def _script(args: argparse.Namespace) -> int:
    site = _site_of(args.entry, load_settings())
    folder = args.factory_dir or Path(os.environ.get(FACTORY_DIR_VARIABLE) or DEFAULT_FACTORY_DIR)
    startup = read_startup(folder) if args.startup is None else _read(args.startup)
    arguments = tuple(args.arguments or ()) or _factory_arguments(args, folder)
    what = ByHand(args.entry, site.install.folder, needs_job_wrapper(site), startup, arguments)
    text = hand_script(what)
    if args.output is None:
        sys.stdout.write(text)
        return EXIT_OK
    try:
        written = write_atomic(args.output, text.encode("ascii"), _SCRIPT_MODE)
    except OSError as err:
        raise PilotError(f"{args.output}: cannot be written: {err.strerror}", "does the folder exist?") from None
    print(f"{'written' if written else 'unchanged'}: {args.output}")
    return EXIT_OK


def _site_of(entry: str, settings: Settings) -> SiteDescription:
    sites = [site for site in select_sites((), settings, entries=False).sites if not site.external]
    for site in sites:
        if any(own.name == entry for own in site.entries):
            return site
    names = ", ".join(own.name for site in sites for own in site.entries)
    raise UsageError(f"no site file has an entry {entry[:80]!r}", f"known entries: {names or 'none'}")


def _factory_arguments(args: argparse.Namespace, folder: Path) -> tuple[str, ...]:
    if args.request is None:
        raise UsageError(
            "it is not said which frontend's pilot it is", f"--request FILE with the output of {_ASK}, or --arguments"
        )
    text = sys.stdin.read(MAX_REQUEST_BYTES) if args.request == "-" else _request_text(Path(args.request))
    request = choose_request(read_requests(text), args.entry, args.frontend, args.group)
    return pilot_arguments(folder, args.entry, request)


def _request_text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            return stream.read(MAX_REQUEST_BYTES)
    except OSError as err:
        raise PilotError(f"{path}: cannot be read: {err.strerror}") from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_STARTUP_BYTES + 1)
    except OSError as err:
        raise PilotError(f"{path}: cannot be read: {err.strerror}") from None
