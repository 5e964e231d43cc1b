# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco remote ...`: everything that concerns the login node."""

from __future__ import annotations

import argparse
import secrets
import shutil
import tempfile
import time
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.bundle import bundle_of
from glideinwms_bosco.cli.selection import checked_sites, factory_ssh, find_account, site_files
from glideinwms_bosco.cli.settings import Settings, load_settings
from glideinwms_bosco.errors import EXIT_OK, EXIT_REMOTE, UsageError
from glideinwms_bosco.remote.client_files import client_files, write_client_files
from glideinwms_bosco.remote.deploy import deploy
from glideinwms_bosco.remote.preflight import check_client_configuration
from glideinwms_bosco.remote.schedd import run_test
from glideinwms_bosco.remote.site_connection import login_endpoint, site_connection
from glideinwms_bosco.remote.ssh import SshSession
from glideinwms_bosco.remote.testjob import MAX_JOBS, MAX_TEST_RUN_S, JobState, TestPlan
from glideinwms_bosco.site.model import Entry, SiteDescription

DEFAULT_TEST_TIMEOUT_S = 600
_DIGEST_SHOWN = 12


def add_commands(nouns: Any) -> None:
    """Add the noun and its verbs."""
    verbs = nouns.add_parser("remote", help="the login node: install, test").add_subparsers(
        metavar="VERB", required=True
    )
    deploys = verbs.add_parser(
        "deploy",
        help="install the bundle in an account",
        epilog="example: gwms-bosco remote deploy nersc:cmspilot --key ~/.ssh/nersc",
    )
    _account_options(deploys)
    deploys.add_argument("--dry-run", action="store_true", help="say what would happen, change nothing")
    deploys.add_argument("--adopt", action="store_true", help="rename a `glite` folder that is not ours, and go on")
    deploys.set_defaults(run=_deploy)
    test = verbs.add_parser(
        "test",
        help="run a real job through schedd, ssh and batch system, as the schedd's user",
        epilog="example: gwms-bosco remote test nersc:cmspilot --key ~/.ssh/nersc",
    )
    _account_options(test)
    test.add_argument("--entry", metavar="NAME", help="entry whose submit attributes are used (default: the first)")
    test.add_argument("--jobs", type=int, default=1, help="how many at once (default: %(default)s)")
    test.add_argument("--exit-code", type=int, default=0, help="what the job ends with (default: %(default)s)")
    test.add_argument("--run-s", type=int, default=0, help="seconds the job runs (default: %(default)s)")
    test.add_argument(
        "--timeout",
        type=int,
        default=DEFAULT_TEST_TIMEOUT_S,
        metavar="S",
        help="give up, which is a failure, after this many seconds (default: %(default)s)",
    )
    test.add_argument("--keep", action="store_true", help="keep the test's folder")
    test.set_defaults(run=_test)
    client = verbs.add_parser(
        "ssh-config",
        help="write the factory's ssh client configuration for all sites",
        epilog="example: gwms-bosco remote ssh-config",
    )
    client.add_argument("--stdout", action="store_true", help="print it, write nothing")
    client.set_defaults(run=_ssh_config)


def _account_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("account", metavar="SITE[:ACCOUNT]", help="short name or file of the site, and account")
    parser.add_argument("--key", type=Path, metavar="FILE", help="private key; the agent's keys when left out")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _deploy(args: argparse.Namespace) -> int:
    settings = load_settings()
    site, account = find_account(args.account, settings)
    connection = site_connection(site, account, _key(args))
    bundle = bundle_of(site, settings)
    with SshSession(connection, site.short_name) as session, output.byte_progress("sending") as advance:
        report = deploy(session, bundle, dry_run=args.dry_run, adopt=args.adopt, progress=advance)
    if args.json:
        output.print_json(asdict(report))
        return EXIT_OK
    print(
        f"{report.action}: {report.account} has bundle {report.digest[:_DIGEST_SHOWN]} "
        f"(HTCondor {bundle.manifest.htcondor_version}, {bundle.manifest.batch_system})"
    )
    if report.previous_digest and report.previous_digest != report.digest:
        print(f"before: {report.previous_digest[:_DIGEST_SHOWN]}")
    print(f"sent: {output.counted(report.files_sent, 'file')}, {report.bytes_sent} bytes compressed")
    for note in report.notes:
        print(f"note: {note}")
    return EXIT_OK


def _test(args: argparse.Namespace) -> int:
    settings = load_settings()
    if not 1 <= args.jobs <= MAX_JOBS or not 0 <= args.exit_code <= 255 or not 0 <= args.run_s <= MAX_TEST_RUN_S:
        raise UsageError(
            "jobs, exit code or run time out of range",
            f"1 to {MAX_JOBS} jobs, exit code 0 to 255, at most {MAX_TEST_RUN_S} s",
        )
    site, account = find_account(args.account, settings)
    check_client_configuration(login_endpoint(site, account), *client_files(settings.state_dir))
    folder = _test_folder(settings, site.short_name)
    plan = TestPlan(
        site,
        account,
        _entry(site, args.entry),
        folder,
        secrets.token_hex(8),
        _key(args),
        args.jobs,
        args.exit_code,
        args.run_s,
    )
    begun = time.monotonic()

    def report(proc: int, sentence: str) -> None:
        if not args.json:
            who = f"job {proc}: " if proc >= 0 and args.jobs > 1 else ""
            print(f"{time.monotonic() - begun:6.1f} s  {who}{sentence}", flush=True)

    passed = False
    try:
        with resources.as_file(resources.files("glideinwms_bosco.remote") / "scripts" / "test_job.sh") as script:
            jobs = run_test(plan, script, args.timeout, report)
        passed = all(job.failure is None for job in jobs)
    finally:
        if passed and not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    _print_test(args, plan, jobs, passed)
    return EXIT_OK if passed else EXIT_REMOTE


def _print_test(args: argparse.Namespace, plan: TestPlan, jobs: list[JobState], passed: bool) -> None:
    kept = str(plan.folder) if args.keep or not passed else None
    if args.json:
        output.print_json(
            {
                "site": plan.site.short_name,
                "account": plan.account.name,
                "entry": plan.entry.name,
                "passed": passed,
                "folder": kept,
                "jobs": [asdict(job) for job in jobs],
            }
        )
        return
    failed = [job for job in jobs if job.failure is not None]
    nodes: dict[str, int] = {}
    for job in jobs:
        if job.failure is None and job.node:
            nodes[job.node] = nodes.get(job.node, 0) + 1
    for job in failed:
        print(f"failed: {job.batch_id or 'no remote job'}: {job.failure}")
    where = ", ".join(f"{count} on {node}" for node, count in sorted(nodes.items()))
    if passed:
        what = f"ran as {plan.account.user}, exit code {plan.exit_code} and output came back"
        print(f"passed: {output.counted(len(jobs), 'job')} {what}; {where}")
    else:
        print(f"FAILED: {len(failed)} of {output.counted(len(jobs), 'job')}")
    if kept:
        print(f"files of the test: {kept}")


def _test_folder(settings: Settings, name: str) -> Path:
    """A private folder for one test; below the state folder, as the schedd needs it as long as the job lives."""
    try:
        parent = settings.state_dir / "test-jobs"
        parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
    except OSError as err:
        raise UsageError(
            f"{settings.state_dir}: cannot be written: {err.strerror}",
            "run this as the schedd's user, or set GWMS_BOSCO_STATE",
        ) from None


def _entry(site: SiteDescription, name: Optional[str]) -> Entry:
    for entry in site.entries:
        if name is None or entry.name == name:
            return entry
    raise UsageError(
        f"site {site.short_name} has no entry {name!r}",
        f"its entries are: {', '.join(entry.name for entry in site.entries)}",
    )


def _key(args: argparse.Namespace) -> Optional[Path]:
    """The key's absolute path.

    Raises:
        UsageError: there is no such file.
    """
    if args.key is None:
        return None
    key: Path = args.key.expanduser().absolute()
    if not key.is_file():
        raise UsageError(f"--key {args.key}: no such file", "name the private key of the account")
    return key


def _ssh_config(args: argparse.Namespace) -> int:
    settings = load_settings()
    sites = checked_sites(site_files(settings)).sites
    config, known_hosts = client_files(settings.state_dir)
    files = factory_ssh(sites, known_hosts)
    if args.stdout:
        print(files.ssh_config, end="")
        return EXIT_OK
    changed = write_client_files(settings.state_dir, files)
    print(f"{'written' if changed else 'unchanged'}: {config} and {known_hosts} ({output.counted(len(sites), 'site')})")
    print(f"the schedd's user reads it by this first line of ~/.ssh/config:\n  Include {config}")
    return EXIT_OK
