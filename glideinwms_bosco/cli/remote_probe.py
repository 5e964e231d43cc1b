# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco remote probe`: what is wrong with a login node, before a pilot finds out."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, Optional

from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.remote_verb import Outcome, Target, add_target_options, run_targets
from glideinwms_bosco.cli.settings import load_settings
from glideinwms_bosco.cli.site_bundles import SiteBundles
from glideinwms_bosco.errors import EXIT_OK, BoscoError, UsageError
from glideinwms_bosco.remote.probe import JOB_TIMEOUT_S, MAX_JOB_TIMEOUT_S, ProbeReport, probe
from glideinwms_bosco.remote.probe_codes import RULES, codes_page, summary
from glideinwms_bosco.remote.probe_wishes import Platform
from glideinwms_bosco.site.model import SiteDescription


def add_commands(verbs: Any) -> None:
    """Add the verb."""
    probes = verbs.add_parser(
        "probe",
        help="look for what would keep pilots from running there",
        description="Look at an account as a pilot will find it: machine, login shell, storage, sshd, batch system. A "
        "small test job shows whether the workers have the home. Exit status: 0 no errors (there may be warnings), 3 "
        "errors, or the login node cannot be asked.",
        epilog="example: gwms-bosco remote probe nersc:cmspilot --key ~/.ssh/nersc",
    )
    add_target_options(probes)
    probes.add_argument("--no-job", action="store_true", help="submit no test job")
    probes.add_argument(
        "--job-timeout", type=int, default=JOB_TIMEOUT_S, metavar="SECONDS", help="for the test job (%(default)s)"
    )
    probes.add_argument("--codes", action="store_true", help="print the page of all codes, probe nothing")
    probes.set_defaults(run=_probe)


def _probe(args: argparse.Namespace) -> int:
    if args.codes:
        output.print_codes(codes_page(), RULES.values(), args.json)
        return EXIT_OK
    if not 1 <= args.job_timeout <= MAX_JOB_TIMEOUT_S:
        raise UsageError(f"--job-timeout {args.job_timeout} is not in 1..{MAX_JOB_TIMEOUT_S}", "or use --no-job")
    settings = load_settings()
    bundles = SiteBundles(settings)

    def work(target: Target, _advance: output.Advance) -> Outcome:
        platforms, problem = _platforms(target.site, bundles)
        with target.session() as session:
            report = probe(
                session,
                target.site,
                target.account,
                platforms=platforms,
                job_timeout_s=0 if args.no_job else args.job_timeout,
            )
        notes = (f"note: no bundle to compare with: {problem}",) if problem else ()
        headline = f"{report.account}: {summary(report.findings)}"
        return Outcome(headline, (*_lines(report), *notes), report.as_json(), ok=report.ok)

    return run_targets(args, settings, "probing", work)


def _platforms(site: SiteDescription, bundles: SiteBundles) -> tuple[tuple[Platform, ...], str]:
    """What the site's bundles run on, or why that is not known: a probe is of use before there is a bundle."""
    try:
        platforms = bundles.platforms(site)
    except BoscoError as error:
        return (), str(error)
    return tuple(Platform(found.architecture, found.glibc_min) for found in platforms), ""


def _lines(report: ProbeReport) -> Iterator[str]:
    for finding in report.findings:
        yield str(finding)
    for name, value in _facts(report):
        if value:
            yield f"{name:<14} {value}"


def _facts(report: ProbeReport) -> Iterator[tuple[str, str]]:
    facts, batch, ssh = report.facts, report.batch, report.ssh
    yield "node", f"{facts.node}, {facts.system or 'unknown system'}, {facts.architecture}, kernel {facts.kernel}"
    yield "libc, python", f"glibc {facts.libc or 'not found'}, Python {facts.python or 'not found'}"
    yield "account", f"{facts.account} ({', '.join(facts.groups)}), shell {facts.shell}, umask {_octal(facts.umask)}"
    yield "place", f"{facts.place}: {_space(facts.free_kb)} of {_space(facts.size_kb)} free"
    for quota in facts.quotas:
        yield "quota", f"{quota.file_system}: {quota.used[0]} kB, {quota.used[1]} files used"
    limits = (("processes", facts.max_processes), ("files", facts.max_files), ("CPU seconds", facts.max_cpu_s))
    yield "limits", ", ".join(f"{'no limit of' if value is None else value} {what}" for what, value in limits)
    settings = ", ".join(f"{key} {value}" for key, value in facts.sshd_settings.items())
    yield "sshd", f"{facts.sshd_version or 'version unknown'}{'; ' + settings if settings else ''}"
    yield "sessions", f"{_or_unknown(ssh.sessions)} at once; forwarding {_yes_no(ssh.forwarding)}"
    if facts.clock_offset_s is not None:
        low, high = facts.clock_offset_s
        yield "clock", f"{low:+.1f} to {high:+.1f} s against this host's"
    yield report.batch_system, f"version {batch.version or 'unknown'}; accounting {_yes_no(batch.accounting)}"
    for queue in batch.queues or ():
        limit = "no limit" if queue.max_walltime_s is None else f"{queue.max_walltime_s} s"
        yield "queue", f"{queue.name}{' (default)' if queue.default else ''}: wall time {limit}"
    yield "projects", ", ".join(batch.projects or ())
    yield "may queue", "" if batch.max_queued is None else f"{batch.max_queued} jobs"
    if facts.job.outcome == "back":
        yield "test job", f"ran on {', '.join(facts.job.result[1:])}"


def _octal(umask: Optional[int]) -> str:
    return "unknown" if umask is None else f"{umask:04o}"


def _space(kilobytes: Optional[int]) -> str:
    return "?" if kilobytes is None else f"{kilobytes / 1024 / 1024:.1f} GiB"


def _or_unknown(number: Optional[int]) -> str:
    return "unknown" if number is None else str(number)


def _yes_no(value: Optional[bool]) -> str:
    return "unknown" if value is None else "yes" if value else "no"
