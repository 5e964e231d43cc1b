# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco remote deploy`: install the bundle."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from glideinwms_bosco.bundle.model import Bundle
from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.bundle import bundle_of
from glideinwms_bosco.cli.remote_verb import Outcome, Target, add_target_options, run_targets
from glideinwms_bosco.cli.settings import load_settings
from glideinwms_bosco.remote.deploy import DeployReport, deploy

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

    def work(target: Target, advance: output.Advance) -> Outcome:
        bundle = bundle_of(target.site, settings)
        with target.session() as session:
            report = deploy(session, bundle, dry_run=args.dry_run, adopt=args.adopt, progress=advance)
        return Outcome(_headline(report, bundle), _lines(report), asdict(report))

    return run_targets(args, settings, "sending", work)


def _headline(report: DeployReport, bundle: Bundle) -> str:
    return (
        f"{report.action}: {report.account} has bundle {report.digest[:_DIGEST_SHOWN]} "
        f"(HTCondor {bundle.manifest.htcondor_version}, {bundle.manifest.batch_system})"
    )


def _lines(report: DeployReport) -> tuple[str, ...]:
    lines = []
    if report.previous_digest and report.previous_digest != report.digest:
        lines.append(f"before: {report.previous_digest[:_DIGEST_SHOWN]}")
    lines.append(f"sent: {output.counted(report.files_sent, 'file')}, {report.bytes_sent} bytes compressed")
    return (*lines, *(f"note: {note}" for note in report.notes))
