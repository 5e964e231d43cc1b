# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco site ...`: check site files, propose host keys."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.frame import add_noun
from glideinwms_bosco.cli.schema_fields import as_markdown, site_fields
from glideinwms_bosco.cli.selection import find_site_file, select_sites, site_files
from glideinwms_bosco.cli.settings import Settings, load_settings
from glideinwms_bosco.cli.surroundings import proxy_budget
from glideinwms_bosco.cli.web_proxies import print_loads, readable_sites
from glideinwms_bosco.errors import EXIT_OK, EXIT_REFUSED, SiteFileError, UsageError
from glideinwms_bosco.remote.hostkeys import scan_host_keys
from glideinwms_bosco.site.model import DEFAULT_SSH_PORT
from glideinwms_bosco.site.schema import site_schema
from glideinwms_bosco.webproxy.budget import ProxyLoad

MAX_PORT = 65535


def add_commands(nouns: Any) -> None:
    """Add the noun and its verbs."""
    verbs = add_noun(nouns, "site", "check site files, propose host keys", "gwms-bosco site check")
    check = verbs.add_parser(
        "check", help="run every check, touch nothing", epilog="example: gwms-bosco site check nersc.yaml"
    )
    check.add_argument("sites", nargs="*", metavar="FILE", help="site file or short name; all sites when left out")
    check.add_argument("--json", action="store_true", help="print the findings as JSON")
    check.set_defaults(run=_check)
    keys = verbs.add_parser(
        "hostkeys",
        help="ask a host for its keys and print them for a site file; writes nothing",
        epilog="example: gwms-bosco site hostkeys login.example.org",
    )
    keys.add_argument("host", metavar="HOST", help="login or jump host")
    keys.add_argument("--port", type=int, default=DEFAULT_SSH_PORT, help="port of sshd (default: %(default)s)")
    keys.add_argument("--json", action="store_true", help="print the keys as JSON")
    keys.set_defaults(run=_hostkeys)
    schema = verbs.add_parser(
        "schema",
        help="print the JSON Schema of site files, for editors",
        epilog="example: gwms-bosco site schema > site.schema.json",
    )
    schema.set_defaults(run=_schema)
    fields = verbs.add_parser(
        "fields",
        help="list every field of a site file as a Markdown table",
        epilog="example: gwms-bosco site fields",
    )
    fields.add_argument("--json", action="store_true", help="print the fields as JSON")
    fields.set_defaults(run=_fields)


def _fields(args: argparse.Namespace) -> int:
    if args.json:
        output.print_json([asdict(field) for field in site_fields()])
    else:
        print(as_markdown(site_fields()), end="")
    return EXIT_OK


def _check(args: argparse.Namespace) -> int:
    settings = load_settings()
    try:
        checked = select_sites(args.sites, settings, host_files=True)
        problems, status, entries = checked.warnings, EXIT_OK, sum(len(site.entries) for site in checked.sites)
        loads = checked.proxy_loads
    except SiteFileError as err:
        problems, status, entries = err.problems, EXIT_REFUSED, 0
        loads = _loads(args.sites, settings)
    errors = sum(problem.severity == "error" for problem in problems)
    if args.json:
        output.print_json(
            {
                "ok": status == EXIT_OK,
                "entries": entries,
                "problems": [asdict(problem) for problem in problems],
                "web_proxies": [load.as_json() for load in loads],
            }
        )
        return status
    output.print_problems(problems)
    if loads:
        print_loads(loads)
    warnings = output.counted(len(problems) - errors, "warning")
    files = output.counted(len(args.sites) or len(site_files(settings)), "site file")
    if status == EXIT_OK:
        print(f"ok: {files}, {output.counted(entries, 'entry', 'entries')}, {warnings}")
    else:
        print(f"refused: {output.counted(errors, 'error')}, {warnings} in {files}")
    return status


def _loads(names: Sequence[str], settings: Settings) -> tuple[ProxyLoad, ...]:
    """What the named sites, or all, ask of their web proxies, as far as files can be read: to show what is too much."""
    paths = [find_site_file(name, settings) for name in names]
    sites = readable_sites(settings, paths)[0]
    files = {str(path) for path in paths}
    return proxy_budget(sites, settings).loads_of(site.short_name for site in sites if not names or site.file in files)


def _hostkeys(args: argparse.Namespace) -> int:
    if not 1 <= args.port <= MAX_PORT:
        raise UsageError(f"--port {args.port} is no TCP port", f"1 to {MAX_PORT}")
    keys = scan_host_keys(args.host, args.port)
    if args.json:
        output.print_json([{"type": key.type, "key": key.key, "fingerprint": key.fingerprint_sha256} for key in keys])
        return EXIT_OK
    print(f"# Shown by {args.host} port {args.port}. Compare the fingerprints with those the centre publishes before")
    print("# you paste this under `login:` (or the jump host); an attacker on the way could have shown his own.")
    print("host_keys:")
    for key in keys:
        print(f"  # {key.fingerprint_sha256}")
        print(f"  - {key.line}")
    return EXIT_OK


def _schema(_args: argparse.Namespace) -> int:
    output.print_json(site_schema())
    return EXIT_OK
