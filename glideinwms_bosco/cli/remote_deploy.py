# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco remote deploy`: install the bundle."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from glideinwms_bosco.bundle.model import Bundle
from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.bundle import override_lines
from glideinwms_bosco.cli.remote_verb import Outcome, Target, add_target_options, run_targets
from glideinwms_bosco.cli.settings import load_settings
from glideinwms_bosco.cli.site_bundles import SiteBundles
from glideinwms_bosco.remote.deploy import DeployReport, deploy
from glideinwms_bosco.remote.platform import Choice

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
    deploys.set_defaults(run=_deploy)


def _deploy(args: argparse.Namespace) -> int:
    settings = load_settings()
    bundles = SiteBundles(settings)

    def work(target: Target, advance: output.Advance) -> Outcome:
        # A source that cannot be used must not cost a connection, unless the choice among several needs one.
        ready = None if bundles.depends_on_machine(target.site) else bundles.get(target.site)
        with target.session() as session:
            bundle, choice = ready or bundles.get_for(session, target.site)
            report = deploy(session, bundle, dry_run=args.dry_run, adopt=args.adopt, progress=advance)
        return Outcome(_headline(report, bundle), _lines(report, bundle, choice), _json(report, bundle, choice))

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
