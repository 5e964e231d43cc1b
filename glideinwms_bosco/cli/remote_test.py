# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco remote test`: a real job through schedd, ssh and batch system."""

from __future__ import annotations

import argparse
import dataclasses
import secrets
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.relay_keys import frontend_of, frontend_of_handle, handle_file
from glideinwms_bosco.cli.remote_verb import key_path, print_wait
from glideinwms_bosco.cli.selection import find_account
from glideinwms_bosco.cli.settings import Settings, load_settings
from glideinwms_bosco.cli.target import Sessions, Target
from glideinwms_bosco.errors import EXIT_OK, EXIT_REMOTE, AuthenticationError, BoscoError, UsageError
from glideinwms_bosco.remote.client_files import client_files
from glideinwms_bosco.remote.history import Event, History
from glideinwms_bosco.remote.installed import installed_digest
from glideinwms_bosco.remote.preflight import check_client_configuration
from glideinwms_bosco.remote.schedd import run_test
from glideinwms_bosco.remote.site_connection import jump_endpoints, login_endpoint
from glideinwms_bosco.remote.testjob import (
    MAX_JOBS,
    MAX_TEST_RUN_S,
    MAX_TIMEOUT_S,
    JobState,
    TestPlan,
    untested_version,
)
from glideinwms_bosco.remote.throttle import Throttle
from glideinwms_bosco.site.model import Account, Entry, SiteDescription
from glideinwms_bosco.state_folder import make_folder, write_hint

DEFAULT_TEST_TIMEOUT_S = 600
MAX_EXIT_CODE = 255
KEEP_TESTS_S = 86400
"""Folders of failed tests are removed by the next test after this time (s)."""


def add_commands(verbs: Any) -> None:
    """Add the verb."""
    test = verbs.add_parser(
        "test",
        help="run a real job through schedd, ssh and batch system, as the schedd's user",
        epilog="example: gwms-bosco remote test nersc:cmspilot --key ~/.ssh/nersc",
    )
    test.add_argument("account", metavar="SITE[:ACCOUNT]", help="short name or file of the site, and account")
    test.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="what the factory hands to remote_gahp: a private key, a broker's handle, or `broker[:FRONTEND]` to have "
        "the handle's file made here; left out: the broker's where the site file says so and a relay runs",
    )
    test.add_argument("--json", action="store_true", help="print the result as JSON")
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


def _test(args: argparse.Namespace) -> int:
    settings = load_settings()
    _check_test_options(args)
    site, account = find_account(args.account, settings)
    entry = _entry(site, args.entry)
    key, frontend = _key(args, settings, site, account)
    try:
        passed, headline = _test_account(args, settings, entry, Target(site, account, key, frontend=frontend))
    except BoscoError as error:
        _remember(settings, site, account, passed=False, headline=str(error))
        raise
    _remember(settings, site, account, passed=passed, headline=headline)
    return EXIT_OK if passed else EXIT_REMOTE


def _key(
    args: argparse.Namespace, settings: Settings, site: SiteDescription, account: Account
) -> tuple[Path, Optional[str]]:
    """The file for remote_gahp, and the frontend when its broker signs."""
    frontend = frontend_of(args.key, account)
    if frontend is not None:
        return handle_file(settings.state_dir, login_endpoint(site, account), frontend), frontend
    key = key_path(args.key, allow_agent_key=False)
    if key is None:
        raise UsageError("--key is missing", "the schedd has no access to your agent; name the key the factory uses")
    return key, frontend_of_handle(key)


def _remember(settings: Settings, site: SiteDescription, account: Account, *, passed: bool, headline: str) -> None:
    event = Event("test", time.time(), passed, headline)
    try:
        History(settings.state_dir).record(site.short_name, account.name, event)
    except OSError as err:
        print(f"note: the history is not written: {err.filename}: {err.strerror}", file=sys.stderr)


def _test_account(args: argparse.Namespace, settings: Settings, entry: Entry, target: Target) -> tuple[bool, str]:
    """Run the test and print its result; whether it passed, and the result in one line."""
    site, account, key = target.site, target.account, target.key
    jumps = jump_endpoints(site, account)
    check_client_configuration(login_endpoint(site, account), jumps, *client_files(settings.state_dir))
    deployed, note = _deployed(dataclasses.replace(target, sessions=Sessions(_throttle(settings), print_wait)))
    if note and not args.json:
        print(output.printable(f"note: {note}"))
    plan = TestPlan(
        site,
        account,
        entry,
        folder=_test_folder(settings, site.short_name),
        word=secrets.token_hex(8),
        key_file=key,
        timeout_s=args.timeout,
        jobs=args.jobs,
        exit_code=args.exit_code,
        run_s=args.run_s,
    )
    jobs = _run_test(args, plan)
    passed = all(job.failure is None for job in jobs)
    if passed and not args.keep:
        shutil.rmtree(plan.folder, ignore_errors=True)
    _print_test(args, plan, jobs, deployed)
    failed = [job.failure for job in jobs if job.failure is not None]
    headline = f"{output.counted(len(jobs), 'job')} passed" if passed else f"{len(failed)} failed: {failed[0]}"
    return passed, headline


def _throttle(settings: Settings) -> Throttle:
    return Throttle(settings.state_dir / "connections")


def _deployed(target: Target) -> tuple[Optional[str], str]:
    """Digest of the installed bundle; or None, and why it is not known.

    A broker opens maintenance only for a while; pilots, and so the test, need it at no time.
    """
    try:
        with target.session() as session:
            return installed_digest(session, target.site.install.folder), ""
    except (AuthenticationError, UsageError) as error:
        if target.frontend is None:
            raise
        return None, f"the installed bundle is not looked at: {error.message}"


def _check_test_options(args: argparse.Namespace) -> None:
    for name, value, least, most in (
        ("--jobs", args.jobs, 1, MAX_JOBS),
        ("--exit-code", args.exit_code, 0, MAX_EXIT_CODE),
        ("--run-s", args.run_s, 0, MAX_TEST_RUN_S),
        ("--timeout", args.timeout, 1, MAX_TIMEOUT_S),
    ):
        if not least <= value <= most:
            raise UsageError(f"{name} {value} is out of range", f"{least} to {most}")


def _run_test(args: argparse.Namespace, plan: TestPlan) -> list[JobState]:
    """Run the jobs and tell their steps; a test that does not come to its end says what it leaves."""
    begun = time.monotonic()

    def report(proc: int, sentence: str) -> None:
        if not args.json:
            who = f"job {proc}: " if proc >= 0 and plan.jobs > 1 else ""
            print(output.printable(f"{time.monotonic() - begun:6.1f} s  {who}{sentence}"), flush=True)

    try:
        with resources.as_file(resources.files("glideinwms_bosco.remote") / "scripts" / "test_job.sh") as script:
            return run_test(plan, script, report)
    except KeyboardInterrupt:
        print(f"the test's jobs are removed from the schedd; its files: {plan.folder}", file=sys.stderr)
        raise
    except BoscoError:
        shutil.rmtree(plan.folder, ignore_errors=True)
        raise


def _print_test(args: argparse.Namespace, plan: TestPlan, jobs: list[JobState], deployed: Optional[str]) -> None:
    passed = all(job.failure is None for job in jobs)
    untested = untested_version(jobs, deployed)
    kept = str(plan.folder) if args.keep or not passed else None
    if args.json:
        output.print_json(
            {
                "site": plan.site.short_name,
                "account": plan.account.name,
                "entry": plan.entry.name,
                "passed": passed,
                "folder": kept,
                "deployed": deployed,
                "untested": untested,
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
        print(output.printable(f"failed: {job.batch_id or 'no remote job'}: {job.failure}"))
    where = ", ".join(f"{count} on {node}" for node, count in sorted(nodes.items()))
    if passed:
        what = f"ran as {plan.account.user}, exit code {plan.exit_code} and output came back"
        print(output.printable(f"passed: {output.counted(len(jobs), 'job')} {what}; {where}"))
    else:
        print(f"FAILED: {len(failed)} of {output.counted(len(jobs), 'job')}")
    if untested:
        print(f"note: {untested}")
    if kept:
        print(f"files of the test, kept for a day: {kept}")


def _test_folder(settings: Settings, name: str) -> Path:
    """A private folder for one test; below the state folder, as the schedd needs it as long as the job lives."""
    try:
        parent = settings.state_dir / "test-jobs"
        make_folder(parent, settings.state_dir)
        for old in parent.iterdir():
            if time.time() - old.stat().st_mtime > KEEP_TESTS_S:
                shutil.rmtree(old, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
    except OSError as err:
        hint = write_hint(err, settings.state_dir, "run this as the schedd's user, or set GWMS_BOSCO_STATE")
        raise UsageError(f"{settings.state_dir}: cannot be written: {err.strerror}", hint) from None


def _entry(site: SiteDescription, name: Optional[str]) -> Entry:
    for entry in site.entries:
        if name is None or entry.name == name:
            return entry
    raise UsageError(
        f"site {site.short_name} has no entry {name!r}",
        f"its entries are: {', '.join(entry.name for entry in site.entries)}",
    )
