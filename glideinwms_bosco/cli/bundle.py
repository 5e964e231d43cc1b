# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco bundle ...`: build and show the remote install bundle."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from glideinwms_bosco.bundle import Bundle, build_bundle, load_bundle, site_request
from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.selection import select_site
from glideinwms_bosco.cli.settings import STATE_FOLDER_MODE, Settings, load_settings
from glideinwms_bosco.errors import EXIT_OK, BundleError, UsageError
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.site.source import HTCondorSource

ARCHIVE_SUFFIX = ".tar.gz"


def add_commands(nouns: Any) -> None:
    """Add the noun and its verbs."""
    verbs = nouns.add_parser("bundle", help="the remote install bundle").add_subparsers(metavar="VERB", required=True)
    build = verbs.add_parser(
        "build",
        help="build a site's bundle and keep it in the bundle store",
        epilog="example: gwms-bosco bundle build nersc",
    )
    build.add_argument("site", metavar="SITE", help="short name or file of the site")
    build.add_argument("--output", type=Path, metavar="FILE", help="write the archive there instead")
    build.add_argument("--json", action="store_true", help="print the manifest as JSON")
    build.set_defaults(run=_build)
    show = verbs.add_parser(
        "show", help="show what is in a bundle and where it comes from", epilog="example: gwms-bosco bundle show nersc"
    )
    show.add_argument("bundle", metavar="SITE|FILE", help="site (its bundle is built), or an archive")
    show.add_argument("--json", action="store_true", help="print the manifest as JSON")
    show.set_defaults(run=_show)


def bundle_of(site: SiteDescription, settings: Settings) -> Bundle:
    """Build the bundle of a site from the site's HTCondor source, or from the host's.

    Raises:
        UsageError: neither the site nor the settings name a source.
        BundleError: the source cannot be used.
    """
    source = site.install.htcondor or settings.htcondor or _installed()
    return build_bundle(source, site_request(site))


def _installed() -> HTCondorSource:
    """The HTCondor of this host, which on a factory is there anyway."""
    if not Path("/usr/sbin/remote_gahp").exists():
        raise UsageError(
            "no HTCondor source is named and this host has no HTCondor",
            "set `htcondor` in gwms-bosco.yaml or `install.htcondor` in the site file",
        )
    return HTCondorSource(root="/")


def _build(args: argparse.Namespace) -> int:
    settings = load_settings()
    site = select_site(args.site, settings)
    bundle = bundle_of(site, settings)
    path = args.output or settings.state_dir / "bundles" / f"{bundle.digest}{ARCHIVE_SUFFIX}"
    try:
        path.parent.mkdir(mode=STATE_FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as err:
        hint = "set GWMS_BOSCO_STATE or use --output"
        raise BundleError(f"{path.parent}: cannot be made: {err.strerror}", hint) from None
    bundle.write_archive(path)
    _print(bundle, args.json)
    if not args.json:
        print(f"archive       {path} ({path.stat().st_size} bytes)")
    return EXIT_OK


def _show(args: argparse.Namespace) -> int:
    if args.bundle.endswith(ARCHIVE_SUFFIX):
        _print(load_bundle(Path(args.bundle)), args.json)
        return EXIT_OK
    settings = load_settings()
    site = select_site(args.bundle, settings)
    _print(bundle_of(site, settings), args.json)
    return EXIT_OK


def _print(bundle: Bundle, as_json: bool) -> None:
    manifest = bundle.manifest
    if as_json:
        output.print_json(json.loads(manifest.to_json()))
        return
    size = sum(entry.size for entry in manifest.files)
    rows = [
        ("digest", manifest.digest),
        ("batch system", manifest.batch_system),
        ("install folder", f"~/{manifest.bosco_dir}"),
        ("source", manifest.source),
        ("runs on", f"{manifest.architecture}, glibc {manifest.glibc_min} or newer"),
        ("needs there", ", ".join(manifest.system_libraries)),
        ("commands there", ", ".join(manifest.remote_commands)),
        ("content", f"{len(manifest.files)} files, {len(manifest.links)} links, {size} bytes"),
    ]
    rows += [("repaired", f"{repair.path}: {repair.name}, {repair.why}") for repair in manifest.repairs]
    rows += [("known limit", limit) for limit in manifest.known_limits]
    for name, value in rows:
        print(f"{name:<15} {value}")
    for entry in manifest.files:
        print(f"  {entry.mode:o} {entry.size:>9} {entry.sha256[:12]} {entry.path}  <- {entry.origin}")
    for link in manifest.links:
        print(f"  link {'':>19} {link.path} -> {link.target}")
