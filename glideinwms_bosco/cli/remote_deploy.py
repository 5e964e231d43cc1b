# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco remote deploy`: install the bundle."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any, Optional

from glideinwms_bosco.bundle.model import Bundle
from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.bundle import override_lines
from glideinwms_bosco.cli.remote_verb import Outcome, Target, add_target_options, run_targets
from glideinwms_bosco.cli.settings import load_settings
from glideinwms_bosco.cli.site_bundles import SiteBundles
from glideinwms_bosco.egress.conf import authorized_key_options, egress_key_options
from glideinwms_bosco.errors import UsageError
from glideinwms_bosco.remote.deploy import DeployReport, deploy
from glideinwms_bosco.remote.platform import Choice
from glideinwms_bosco.remote.site_key import WARNING, SiteKeyReport, place_site_key
from glideinwms_bosco.remote.ssh import SshSession
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.site.network import SITE_KEY, SSH

_DIGEST_SHOWN = 12


def add_commands(verbs: Any) -> None:
    """Add the verb."""
    deploys = verbs.add_parser(
        "deploy",
        help="install the bundle in an account",
        epilog="example: gwms-bosco remote deploy nersc:cmspilot --key ~/.ssh/nersc",
    )
    add_target_options(deploys)
    deploys.add_argument("--dry-run", action="store_true", help="say what would happen, change nothing")
    deploys.add_argument("--adopt", action="store_true", help="rename a `glite` folder that is not ours, and go on")
    deploys.add_argument(
        "--rotate-site-key",
        action="store_true",
        help="make a new key for the tunnel of a closed site (auth: site-key); the old one is not allowed any more",
    )
    deploys.set_defaults(run=_deploy)


def _deploy(args: argparse.Namespace) -> int:
    settings = load_settings()
    bundles = SiteBundles(settings)

    def work(target: Target, advance: output.Advance) -> Outcome:
        # A source that cannot be used must not cost a connection, unless the choice among several needs one.
        wants_key = _wants_key(target.site, args)
        ready = None if bundles.depends_on_machine(target.site) else bundles.get(target.site)
        with target.session() as session:
            bundle, choice = ready or bundles.get_for(session, target.site)
            key: list[SiteKeyReport] = []

            def place() -> None:
                key.append(_place_key(session, target.site, args))

            # Before the switch: the pilots of the new version find it.
            before = place if wants_key else None
            report = deploy(session, bundle, dry_run=args.dry_run, adopt=args.adopt, progress=advance, before=before)
            if wants_key and args.dry_run:
                place()
        made = key[0] if key else None
        lines = (*_lines(report, bundle, choice), *_key_lines(made, target.site))
        json = {**_json(report, bundle, choice), "site_key": _key_json(made, target.site)}
        return Outcome(_headline(report, bundle), lines, json)

    return run_targets(args, settings, "sending", work)


def _headline(report: DeployReport, bundle: Bundle) -> str:
    return (
        f"{report.action}: {report.account} has bundle {report.digest[:_DIGEST_SHOWN]} "
        f"(HTCondor {bundle.manifest.htcondor_version}, {bundle.manifest.batch_system})"
    )


def _lines(report: DeployReport, bundle: Bundle, choice: Choice) -> tuple[str, ...]:
    lines = []
    if report.previous_digest and report.previous_digest != report.digest:
        lines.append(f"before: {report.previous_digest[:_DIGEST_SHOWN]}")
    lines.append(f"sent: {output.counted(report.files_sent, 'file')}, {report.bytes_sent} bytes compressed")
    lines += [f"source: {line}" for line in choice.lines()]
    lines += [f"override: {line}" for line in override_lines(bundle.manifest)]
    return (*lines, *(f"note: {note}" for note in (*choice.problems, *report.notes)))


def _json(report: DeployReport, bundle: Bundle, choice: Choice) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        **asdict(report),
        "notes": [*choice.problems, *report.notes],
        "sources": choice.as_json(),
        "overrides": [asdict(override) for override in manifest.overrides],
        "settings": [asdict(setting) for setting in manifest.settings],
    }


def _wants_key(site: SiteDescription, args: argparse.Namespace) -> bool:
    wants = site.network is not None and site.network.tunnel.auth == SITE_KEY
    if args.rotate_site_key and not wants:
        raise UsageError(f"{site.short_name}: --rotate-site-key: the site file does not say tunnel.auth: site-key")
    return wants


def _place_key(session: SshSession, site: SiteDescription, args: argparse.Namespace) -> SiteKeyReport:
    options = authorized_key_options(site)
    return place_site_key(session, site.install.folder, options, rotate=args.rotate_site_key, dry_run=args.dry_run)


def _egress_line(key: SiteKeyReport, site: SiteDescription) -> Optional[str]:
    """The line for the egress proxy's admin; only an egress proxy of kind ssh is logged in to."""
    if key.public_key is None or site.network is None or site.network.egress.kind != SSH:
        return None
    return f"{egress_key_options(site)} {key.public_key} {site.short_name}"


def _key_lines(key: Optional[SiteKeyReport], site: SiteDescription) -> tuple[str, ...]:
    if key is None:
        return ()
    lines = [f"tunnel key: {key.action}", f"warning: {WARNING}"]
    if key.line:
        lines.append(f"in {key.authorized_keys}: {key.line}")
    egress = _egress_line(key, site)
    if egress is not None:
        lines.append(f"for the admin of the egress proxy, into authorized_keys there: {egress}")
    return (*lines, *(f"note: {note}" for note in key.notes))


def _key_json(key: Optional[SiteKeyReport], site: SiteDescription) -> Optional[dict[str, Any]]:
    return None if key is None else {**asdict(key), "warning": WARNING, "egress_line": _egress_line(key, site)}
