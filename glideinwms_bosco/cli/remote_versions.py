# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco remote versions|verify|rollback|gc|remove`: the life of the versions in an account."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.remote_verb import Outcome, Target, add_target_options, run_targets
from glideinwms_bosco.cli.settings import load_settings
from glideinwms_bosco.remote.gc import KEEP_VERSIONS, GcReport, collect
from glideinwms_bosco.remote.remove import Jobs, RemoveReport, remove
from glideinwms_bosco.remote.rollback import RollbackReport, rollback
from glideinwms_bosco.remote.verify import ALL, CURRENT, VerifyReport, verify
from glideinwms_bosco.remote.versions import DIGEST_SHOWN, AccountVersions, Use, Version, account_versions

MAX_KEEP = 1000


def add_commands(verbs: Any) -> None:
    """Add the verbs."""
    shown = _verb(verbs, "versions", "show which versions an account has and who uses them", _versions)
    add_target_options(shown)
    checked = _verb(verbs, "verify", "compare what is installed, file by file, with what was installed", _verify)
    add_target_options(checked)
    which = checked.add_mutually_exclusive_group()
    which.add_argument("--version", type=_digest, metavar="DIGEST", help="beginning of a digest (default: the current)")
    which.add_argument("--all-versions", action="store_const", const=ALL, dest="version", help="all versions")
    back = _verb(verbs, "rollback", "switch back to an earlier version, at once; running pilots keep theirs", _rollback)
    add_target_options(back)
    back.add_argument("--to", type=_digest, metavar="DIGEST", help="beginning of a digest (default: the one before)")
    swept = _verb(verbs, "gc", "remove versions that nothing needs", _gc)
    add_target_options(swept)
    swept.add_argument(
        "--keep", type=_keep, default=KEEP_VERSIONS, metavar="N", help="keep the newest N (default: %(default)s)"
    )
    gone = _verb(verbs, "remove", "take the installation away when no job needs it any more", _remove)
    add_target_options(gone)
    gone.add_argument("--force", action="store_true", help="also under running jobs; says what breaks")
    for parser in (back, swept, gone):
        parser.add_argument("--dry-run", action="store_true", help="say what would happen, change nothing")


def _verb(verbs: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    example = f"example: gwms-bosco remote {name} nersc:cmspilot --key ~/.ssh/nersc"
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, epilog=example)
    parser.set_defaults(run=run)
    return parser


def _digest(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{4,64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not the beginning of a digest (4 to 64 of 0-9a-f)")
    return text


def _keep(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MAX_KEEP:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MAX_KEEP}")
    return int(text)


def _versions(args: argparse.Namespace) -> int:
    def work(target: Target, _advance: output.Advance) -> Outcome:
        with target.session() as session:
            account = account_versions(session, target.site.install.folder)
        headline = f"{account.account} has {output.counted(len(account.versions), 'version')} on {account.node}"
        return Outcome(headline, tuple(_version_lines(account)), _versions_report(account))

    return run_targets(args, load_settings(), "asking", work)


def _version_lines(account: AccountVersions) -> Iterator[str]:
    for version in account.versions:
        yield (
            f"{version.digest[:DIGEST_SHOWN]}  HTCondor {version.htcondor or '?':<9} "
            f"{_when(version.installed_at)}  {version.size_kb:>7} kB  {_state(version)}".rstrip()
        )
        yield from (f"  used by {_use_text(use)}" for use in version.uses)
    for use in account.missing_uses:
        yield f"warning: {_use_text(use)} uses version {use.digest[:DIGEST_SHOWN]}, which is not there"
    if account.leftovers:
        yield f"left over from commands that were cut off: {', '.join(account.leftovers)}; `gc` removes them"
    if account.foreign:
        yield f"not ours: {', '.join(account.foreign)}"


def _state(version: Version) -> str:
    return "current" if version.current else "previous" if version.previous else ""


def _use_text(use: Use) -> str:
    sure = "" if use.certain else ", as far as is known"
    return f"{use.name or 'a gahp'} (process {use.pid} on {use.node}{sure})"


def _versions_report(account: AccountVersions) -> dict[str, Any]:
    report = asdict(account)
    for unasked in ("jobs_status", "jobs_text"):
        del report[unasked]
    return report


def _when(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at))


def _verify(args: argparse.Namespace) -> int:
    def work(target: Target, _advance: output.Advance) -> Outcome:
        with target.session() as session:
            report = verify(session, target.site.install.folder, args.version or CURRENT)
        return _verify_outcome(report, args.version or CURRENT)

    return run_targets(args, load_settings(), "verifying", work)


def _verify_outcome(report: VerifyReport, which: str) -> Outcome:
    drift = [(place.path, place) for place in report.places]
    drift += [(f"{check.digest[:DIGEST_SHOWN]}/{item.path}", item) for check in report.checks for item in check.drift]
    lines = [f"drift: {path} {item.text}" for path, item in drift]
    lines += [
        f"note: {check.digest[:DIGEST_SHOWN]} does not record modes and links; deploying its bundle again does"
        for check in report.checks
        if not check.complete
    ]
    ok = report.clean and bool(report.checks)
    files = sum(check.files for check in report.checks)
    if not report.checks:
        what = "no version is in use" if which == CURRENT else f"no version {which}"
        headline = f"nothing to verify: {report.account}: {what}"
    else:
        names = ", ".join(check.digest[:DIGEST_SHOWN] for check in report.checks)
        said = "as installed" if ok else f"{output.counted(len(drift), 'difference')}"
        headline = (
            f"{'verified' if ok else 'drift'}: {report.account}: {names} ({output.counted(files, 'file')}): {said}"
        )
    return Outcome(headline, tuple(lines), {**asdict(report), "clean": ok}, ok)


def _rollback(args: argparse.Namespace) -> int:
    def work(target: Target, _advance: output.Advance) -> Outcome:
        with target.session() as session:
            report = rollback(session, target.site.install.folder, args.to, dry_run=args.dry_run)
        return Outcome(_rollback_headline(report), tuple(_rollback_lines(report)), asdict(report))

    return run_targets(args, load_settings(), "switching", work)


def _rollback_headline(report: RollbackReport) -> str:
    return (
        f"{report.action}: {report.account} {'would use' if report.action == 'would-switch' else 'uses'} version "
        + (report.digest[:DIGEST_SHOWN])
    )


def _rollback_lines(report: RollbackReport) -> Iterator[str]:
    if report.before and report.before != report.digest:
        yield f"before: {report.before[:DIGEST_SHOWN]}"
    if not report.complete:
        yield "note: only contents could be verified; the version does not record modes and links"


def _gc(args: argparse.Namespace) -> int:
    def work(target: Target, _advance: output.Advance) -> Outcome:
        with target.session() as session:
            report = collect(session, target.site.install.folder, keep=args.keep, dry_run=args.dry_run)
        return Outcome(_gc_headline(report), tuple(_gc_lines(report)), asdict(report))

    return run_targets(args, load_settings(), "cleaning", work)


def _gc_headline(report: GcReport) -> str:
    verb = "would remove" if report.dry_run else "removed"
    count, size = output.counted(len(report.removed), "version"), sum(report.removed.values())
    return f"{verb}: {report.account}: {count} ({size} kB), {output.counted(len(report.swept), 'leftover')}"


def _gc_lines(report: GcReport) -> Iterator[str]:
    for digest in report.removed:
        yield f"{'would go' if report.dry_run else 'gone'}: {digest[:DIGEST_SHOWN]}"
    for name in report.swept:
        yield f"{'would go' if report.dry_run else 'gone'}: {name}"
    for digest, why in report.kept.items():
        yield f"kept: {digest[:DIGEST_SHOWN]} ({why})"


def _remove(args: argparse.Namespace) -> int:
    def work(target: Target, _advance: output.Advance) -> Outcome:
        batch = target.site.batch
        jobs = Jobs(batch.system, target.account.user, batch.bin_path, dict(batch.settings))
        with target.session() as session:
            report = remove(session, target.site.install.folder, jobs, force=args.force, dry_run=args.dry_run)
        return Outcome(_remove_headline(report), tuple(_remove_lines(report)), asdict(report))

    return run_targets(args, load_settings(), "removing", work)


def _remove_headline(report: RemoveReport) -> str:
    if report.action == "nothing":
        return f"nothing: {report.account} has no installation of ours"
    return f"{report.action}: {report.account}: {output.counted(len(report.versions), 'version')}"


def _remove_lines(report: RemoveReport) -> Iterator[str]:
    would = report.action == "would-remove"
    for need in report.needed_by:
        yield f"{'would refuse without --force' if would else 'broken by --force'}: {need}"
    if report.site_key:
        yield f"{'would go' if would else 'gone'}: the tunnel's key, with its line in authorized_keys"
    if report.left:
        yield f"left: {', '.join(report.left)}"
