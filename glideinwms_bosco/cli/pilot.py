# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco pilot ...`: what pilots bring along, shown or packed by itself."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path
from typing import Any

from glideinwms_bosco.atomic import write_atomic
from glideinwms_bosco.cli import output, pilot_script
from glideinwms_bosco.cli.frame import add_noun
from glideinwms_bosco.cli.selection import select_site, select_sites
from glideinwms_bosco.cli.settings import Settings, load_settings
from glideinwms_bosco.errors import EXIT_OK, PilotError, UsageError
from glideinwms_bosco.pilot.plan import PilotPlan
from glideinwms_bosco.pilot.scripts import default_scripts_dir, pack_script, read_sources, with_words

_SCRIPT_MODE = 0o755


def add_commands(nouns: Any) -> None:
    """Add the noun and its verbs."""
    verbs = add_noun(nouns, "pilot", "what pilots bring along", "gwms-bosco pilot show nersc")
    show = verbs.add_parser(
        "show",
        help="list files and attributes that the runtime blocks of sites give to their entries; writes nothing",
        epilog="example: gwms-bosco pilot show nersc",
    )
    show.add_argument("sites", nargs="*", metavar="SITE", help="short name or file; all sites when left out")
    show.add_argument("--json", action="store_true", help="print them as JSON")
    show.set_defaults(run=_show)
    pack = verbs.add_parser(
        "pack",
        help="pack one pilot script with its libraries into a single file",
        epilog="example: gwms-bosco pilot pack pilot_container --output pilot_container",
    )
    pack.add_argument("script", metavar="SCRIPT", help="its name, such as cvmfs_setup or pilot_container")
    pack.add_argument("--site", metavar="SITE", help="of pilot_container: with the image and sha256 of this site in it")
    pack.add_argument("--output", type=Path, metavar="FILE", help="write it there, executable; printed when left out")
    pack.set_defaults(run=_pack)
    pilot_script.add_commands(verbs)


def _show(args: argparse.Namespace) -> int:
    checked = select_sites(args.sites, load_settings())
    rows = {site.short_name: _row(plan) for site, plan in zip(checked.sites, checked.plans)}
    if args.json:
        output.print_json(rows)
        return EXIT_OK
    for name, row in rows.items():
        counts = output.counted(len(row["files"]), "file"), output.counted(len(row["attributes"]), "attribute")
        print(f"{name}: {', '.join(counts)}")
        for file in row["files"]:
            again = f", again every {file['period_s']} s" if file["period_s"] else ""
            print(f"  {file['name']}: {file['kind']}, {file['bytes']} bytes, sha256 {file['sha256'][:12]}{again}")
        for attribute, value in row["attributes"].items():
            print(f"  {attribute} = {value}")
    return EXIT_OK


def _row(plan: PilotPlan) -> dict[str, Any]:
    return {
        "files": [
            {
                "name": file.node_name,
                "stored_name": file.stored_name,
                "kind": file.kind,
                "period_s": file.period_s,
                "bytes": len(file.content),
                "sha256": hashlib.sha256(file.content).hexdigest(),
            }
            for file in plan.files
        ],
        "attributes": {attr.name: attr.value for attr in plan.attrs},
    }


def _image_words(args: argparse.Namespace, settings: Settings) -> tuple[str, str]:
    site = select_site(args.site, settings)
    container = site.runtime.container if site.runtime is not None else None
    if args.script != "pilot_container":
        raise UsageError(f"{args.script} is not for one site", "leave --site out")
    if container is None or container.image is None or container.sha256 is None:
        raise UsageError(f"{site.short_name} has no image and sha256 in runtime.container", "add them")
    return container.image, container.sha256


def _pack(args: argparse.Namespace) -> int:
    settings = load_settings()
    packed = pack_script(args.script, read_sources(settings.scripts_dir or default_scripts_dir()))
    if args.site is not None:
        packed = with_words(packed, _image_words(args, settings))
    if args.output is None:
        sys.stdout.write(packed.decode("utf-8"))
        return EXIT_OK
    try:
        written = write_atomic(args.output, packed, _SCRIPT_MODE)
    except OSError as err:
        raise PilotError(f"{args.output}: cannot be written: {err.strerror}", "does the folder exist?") from None
    print(f"{'written' if written else 'unchanged'}: {args.output}")
    return EXIT_OK
