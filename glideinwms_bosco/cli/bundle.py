# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco bundle ...`: build and show the remote install bundle."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.bundle import Bundle, load_bundle
from glideinwms_bosco.bundle.manifest import Manifest
from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.frame import add_noun
from glideinwms_bosco.cli.selection import select_site
from glideinwms_bosco.cli.settings import load_settings
from glideinwms_bosco.cli.site_bundles import SiteBundles
from glideinwms_bosco.errors import EXIT_OK, BundleError
from glideinwms_bosco.remote.platform import Choice, Machine
from glideinwms_bosco.state_folder import FOLDER_MODE, give_to_owner, make_folder, write_hint

ARCHIVE_SUFFIX = ".tar.gz"

_DIGEST_SHOWN = 12
_PLATFORM = re.compile(r"([A-Za-z0-9_]{1,20}):([0-9]{1,3}\.[0-9]{1,4})")


def add_commands(nouns: Any) -> None:
    """Add the noun and its verbs."""
    verbs = add_noun(nouns, "bundle", "the remote install bundle", "gwms-bosco bundle show nersc")
    build = verbs.add_parser(
        "build",
        help="build a site's bundle and keep it in the bundle store",
        epilog="example: gwms-bosco bundle build nersc",
    )
    build.add_argument("site", metavar="SITE", help="short name or file of the site")
    build.add_argument("--output", type=Path, metavar="FILE", help="write the archive there instead")
    _add_platform(build)
    build.add_argument("--json", action="store_true", help="print the manifest as JSON")
    build.set_defaults(run=_build)
    show = verbs.add_parser(
        "show", help="show what is in a bundle and where it comes from", epilog="example: gwms-bosco bundle show nersc"
    )
    show.add_argument("bundle", metavar="SITE|FILE", help="site (its bundle is built), or an archive")
    _add_platform(show)
    show.add_argument("--json", action="store_true", help="print the manifest as JSON")
    show.set_defaults(run=_show)


def _add_platform(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--platform",
        type=_machine,
        metavar="ARCH:GLIBC",
        help="choose among several HTCondor sources as for such a machine, such as aarch64:2.34, "
        "all libraries taken to be there; the newest source when left out",
    )


def _machine(text: str) -> Machine:
    match = _PLATFORM.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not of the form x86_64:2.34")
    return Machine(match.group(1), match.group(2))


def _build(args: argparse.Namespace) -> int:
    settings = load_settings()
    site = select_site(args.site, settings)
    bundle, choice = SiteBundles(settings).get(site, args.platform)
    path = args.output or settings.state_dir / "bundles" / f"{bundle.digest}{ARCHIVE_SUFFIX}"
    if args.output:
        _make_folder_of(path)
        bundle.write_archive(path)
    else:
        _keep(bundle, path, settings.state_dir)
    _print(bundle, args.json, choice)
    if not args.json:
        print(f"archive       {path} ({path.stat().st_size} bytes)")
    return EXIT_OK


def _make_folder_of(path: Path) -> None:
    try:
        path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as err:
        raise BundleError(f"{path.parent}: cannot be made: {err.strerror}", "name another file") from None


def _keep(bundle: Bundle, path: Path, state_dir: Path) -> None:
    """Write the bundle below the state folder."""
    try:
        make_folder(path.parent, state_dir)
        bundle.write_archive(path)
        give_to_owner(path, state_dir)
    except (OSError, BundleError) as err:
        cause = err.__cause__ if isinstance(err, BundleError) else err
        if not isinstance(cause, OSError):
            raise
        hint = write_hint(cause, state_dir, "set GWMS_BOSCO_STATE or use --output")
        raise BundleError(f"{path}: cannot be written: {cause.strerror}", hint) from None


def _show(args: argparse.Namespace) -> int:
    if args.bundle.endswith(ARCHIVE_SUFFIX):
        _print(load_bundle(Path(args.bundle)), args.json, None)
        return EXIT_OK
    settings = load_settings()
    site = select_site(args.bundle, settings)
    bundle, choice = SiteBundles(settings).get(site, args.platform)
    _print(bundle, args.json, choice)
    return EXIT_OK


def override_lines(manifest: Manifest) -> tuple[str, ...]:
    """What operators have laid over a bundle and set in its blah.config, a line for each."""
    lines = []
    for override in manifest.overrides:
        replaced = f"{override.replaced_sha256[:_DIGEST_SHOWN]} {override.replaced_origin}".strip()
        lines.append(
            f"{override.path}: {override.sha256[:_DIGEST_SHOWN]} from {override.origin}"
            + (f", replaces {replaced}" if replaced else ", a new file")
        )
    lines += [f"blah.config: {item.key}={item.value} from the {item.origin}" for item in manifest.settings]
    return tuple(lines)


def _print(bundle: Bundle, as_json: bool, choice: Optional[Choice]) -> None:
    manifest = bundle.manifest
    if as_json:
        sources = {} if choice is None else {"sources": choice.as_json()}
        output.print_json({**json.loads(manifest.to_json()), **sources})
        return
    size = sum(entry.size for entry in manifest.files)
    rows = [
        ("digest", manifest.digest),
        ("batch system", manifest.batch_system),
        ("install folder", f"~/{manifest.bosco_dir}"),
        ("source", manifest.source),
        *(("", line) for line in (choice.lines()[1:] if choice is not None else ())),
        ("runs on", f"{manifest.architecture}, glibc {manifest.glibc_min} or newer"),
        ("needs there", ", ".join(manifest.system_libraries)),
        ("commands there", ", ".join(manifest.remote_commands)),
        ("content", f"{len(manifest.files)} files, {len(manifest.links)} links, {size} bytes"),
    ]
    rows += [("repaired", f"{repair.path}: {repair.name}, {repair.why}") for repair in manifest.repairs]
    rows += [("known limit", limit) for limit in manifest.known_limits]
    rows += [("override", line) for line in override_lines(manifest)]
    for name, value in rows:
        print(output.printable(f"{name:<15} {value}"))
    for entry in manifest.files:
        print(f"  {entry.mode:o} {entry.size:>9} {entry.sha256[:12]} {entry.path}  <- {entry.origin}")
    for link in manifest.links:
        print(f"  link {'':>19} {link.path} -> {link.target}")
