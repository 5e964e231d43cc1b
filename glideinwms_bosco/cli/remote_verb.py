# SPDX-License-Identifier: Apache-2.0
"""One remote command over one account or many: which accounts are meant, what each one's work gave, how it is shown."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.fleet import DEFAULT_JOBS, MAX_JOBS, Fleet, Interrupted, Result
from glideinwms_bosco.cli.fleet_selection import Selection, select_all, select_labels, select_named
from glideinwms_bosco.cli.fleet_view import fleet_view, print_line, summary
from glideinwms_bosco.cli.lasting_output import LastingOutput, LastingView
from glideinwms_bosco.cli.relay_keys import frontend_of
from glideinwms_bosco.cli.settings import Settings
from glideinwms_bosco.cli.target import Outcome, Sessions, Target, Work
from glideinwms_bosco.errors import EXIT_OK, EXIT_REFUSED, EXIT_REMOTE, BoscoError, ThrottledError, UsageError
from glideinwms_bosco.remote.history import Event, History
from glideinwms_bosco.remote.key_file import check_key_file
from glideinwms_bosco.remote.throttle import Throttle
from glideinwms_bosco.site.model import Account, SiteDescription

__all__ = ["Outcome", "Target", "Work", "add_target_options", "key_path", "print_wait", "run_targets"]

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

Show = Callable[[Sequence[Result]], None]
"""Prints the results of many accounts together, for people."""


def add_target_options(parser: argparse.ArgumentParser) -> None:
    """Options that say on which accounts a command works."""
    parser.add_argument(
        "targets",
        metavar="SITE[:ACCOUNT]",
        nargs="*",
        help="short name or file of the site, and account; several, and patterns such as 'nersc*' or 'nersc:*'",
    )
    parser.add_argument("--all", action="store_true", help="every account of every site")
    parser.add_argument("--retry-failed", action="store_true", help="the accounts this command failed for last time")
    parser.add_argument(
        "--jobs",
        type=int,
        default=DEFAULT_JOBS,
        metavar="N",
        help="accounts at once (default: %(default)s); a login host's own limits stand in its site file",
    )
    parser.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="private key, {site}, {account} and {user} stand for names; or `broker[:FRONTEND]`, whose maintenance "
        "must be open; left out: the broker's where the site file says so and a relay runs, else your agent's keys",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the result as JSON; of several accounts, a line for each"
    )


def run_targets(
    args: argparse.Namespace,
    settings: Settings,
    progress: str,
    work: Work,
    *,
    record: bool = True,
    show: Optional[Show] = None,
) -> int:
    """Do the work on every account that the options name, show what it gave, and return the exit status.

    Args:
        args: has what `add_target_options` has added, and the verb's name as `verb`.
        settings: of the host.
        progress: title of a progress bar for bytes.
        work: for one account.
        record: whether an account's history shall know of it; a dry run never gets there.
        show: prints the results of several accounts in place of a line for each.

    Raises:
        BoscoError: the options name nothing, or the single account's work has failed.
        Interrupted: the results so far have been shown.
    """
    selection = _selection(args, settings)
    run = _Run(args, settings, progress, record and not getattr(args, "dry_run", False))
    if selection.single:
        return run.single(*selection.accounts[0], work)
    if not 1 <= args.jobs <= MAX_JOBS:
        raise UsageError(f"--jobs {args.jobs} is out of range", f"1 to {MAX_JOBS}")
    if frontend_of(args.key) is None and _filled(args.key, {"site": "", "account": "", "user": ""}) == args.key:
        # One key for all: what is wrong with it need not be said once per account.
        key_path(args.key)
    return run.many(selection, work, show)


def _selection(args: argparse.Namespace, settings: Settings) -> Selection:
    ways = [bool(args.targets), args.all, args.retry_failed]
    if sum(ways) != 1:
        what = "no account is named" if not any(ways) else "names, --all and --retry-failed exclude each other"
        raise UsageError(what, "name SITE[:ACCOUNT], or use --all or --retry-failed")
    if args.targets:
        return select_named(args.targets, settings)
    if args.all:
        return select_all(settings)
    history = History(settings.state_dir)
    if history.failed_is_damaged(args.verb):
        raise UsageError(f"which accounts {args.verb} failed for cannot be read in {settings.state_dir}", "name them")
    return select_labels(history.failed(args.verb), settings)


class _Run:
    """One call of a verb."""

    def __init__(self, args: argparse.Namespace, settings: Settings, progress: str, record: bool) -> None:
        self._args, self._progress, self._record = args, progress, record
        self._history = History(settings.state_dir)
        self._throttle = Throttle(settings.state_dir / "connections")
        self._began = time.monotonic()
        self._retry_known = True
        self._output = LastingOutput()

    def single(self, site: SiteDescription, account: Account, work: Work) -> int:
        """One account, shown at length."""
        sessions = Sessions(self._throttle, print_wait)
        try:
            target = self._target(site, account, sessions)
            with output.byte_progress(self._progress) as advance:
                outcome = work(target, advance)
        except BoscoError as error:
            self._remember([Result(site.short_name, account.name, error=error)], whole=False)
            raise
        self._remember([Result(site.short_name, account.name, outcome)], whole=False)
        self._output.show(lambda: self._print_alone(outcome))
        return self._status(outcome.ok)

    def _print_alone(self, outcome: Outcome) -> None:
        if self._args.json:
            output.print_json(outcome.report)
            return
        for line in (outcome.headline, *outcome.lines):
            print(output.printable(line))

    def _status(self, ok: bool) -> int:
        if not ok:
            return EXIT_REMOTE
        return EXIT_REFUSED if self._output.lost else EXIT_OK

    def many(self, selection: Selection, work: Work, show: Optional[Show]) -> int:
        """Several accounts side by side."""
        for sentence in selection.left_out:
            print(output.printable(f"left out: {sentence}"), file=sys.stderr)
        broken = tuple(Result(site.name, None, error=site.error) for site in selection.broken)
        size = len(selection.accounts) + len(broken)
        shown = fleet_view(size, self._progress, as_json=self._args.json, results=show is None)
        view = LastingView(shown, self._output)
        try:
            for result in broken:
                view.ended(result)
            results = broken + Fleet(selection.accounts, self._target, work, self._throttle, view).run(self._args.jobs)
        except Interrupted as interrupted:
            view.close()
            self._conclude(broken + interrupted.results, None)
            raise interrupted.cause from None
        finally:
            view.close()
        return self._conclude(results, show)

    def _target(self, site: SiteDescription, account: Account, sessions: Sessions) -> Target:
        frontend = frontend_of(self._args.key, account)
        if frontend is not None:
            return Target(site, account, None, sessions, frontend)
        names = {"site": site.short_name, "account": account.name, "user": account.user}
        return Target(site, account, key_path(_filled(self._args.key, names)), sessions)

    def _conclude(self, results: Sequence[Result], show: Optional[Show]) -> int:
        """Write the history, print the count as the last line; return the exit status."""
        # Those that other sites have failed for are still to be tried again.
        self._remember(results, whole=self._args.all or self._args.retry_failed)
        counts = summary(results, self._args.verb, time.monotonic() - self._began)
        self._output.show(lambda: self._print_counts(counts, results, show))
        if not counts["failed"]:
            return self._status(ok=True)
        last = f"gwms-bosco: {counts['failed']} of {counts['total']} failed"
        if self._retry_known and not getattr(self._args, "dry_run", False):
            last += f"; to try them again: gwms-bosco remote {self._args.verb} --retry-failed"
        with contextlib.suppress(OSError):
            print(last, file=sys.stderr)
        return self._status(ok=False)

    def _print_counts(self, counts: Mapping[str, Any], results: Sequence[Result], show: Optional[Show]) -> None:
        if self._args.json:
            print_line(counts)
            return
        if show is not None:
            show(results)
        begun = f", {counts['not_begun']} of them not begun" if counts["not_begun"] else ""
        print(
            f"{output.counted(counts['total'], 'target')}: {counts['ok']} ok, {counts['failed']} failed{begun} "
            f"({counts['seconds']:.1f} s)"
        )

    def _remember(self, results: Sequence[Result], *, whole: bool) -> None:
        """Write down what was done with each account, and which have failed.

        Args:
            whole: the failed ones take the place of those before; else they are added, and the others struck off.
        """
        if getattr(self._args, "dry_run", False):
            return
        # Those that were not let in go first next time: accounts with a refused key would use up the host's patience.
        failed = [r.label for r in sorted(results, key=_was_tried) if not r.ok]
        if not whole:
            labels = {result.label for result in results}
            failed += [label for label in self._history.failed(self._args.verb) if label not in labels]
        troubles: list[OSError] = []
        try:
            if whole or failed != list(self._history.failed(self._args.verb)):
                self._history.set_failed(self._args.verb, failed)
        except OSError as err:
            self._retry_known = False
            troubles.append(err)
        for result in results if self._record else ():
            if result.account is None or not result.begun:
                continue
            try:
                self._history.record(result.site, result.account, _event(self._args.verb, result))
            except OSError as err:
                troubles.append(err)
        if troubles and (self._record or not self._retry_known):
            print(f"note: the history is not written: {troubles[0].filename}: {troubles[0].strerror}", file=sys.stderr)


def print_wait(sentence: str) -> None:
    """Say on standard error what a single account's work waits for."""
    with contextlib.suppress(OSError):
        print(f"wait: {output.printable(sentence)}", file=sys.stderr)


def _was_tried(result: Result) -> bool:
    return result.begun and not isinstance(result.error, ThrottledError)


def _event(verb: str, result: Result) -> Event:
    report = {} if result.outcome is None else result.outcome.report
    return Event(verb, time.time(), result.ok, result.sentence, report)


def _filled(key: Optional[Path], names: dict[str, str]) -> Optional[Path]:
    """Put names in the place of {site}, {account} and {user}."""
    if key is None:
        return None
    unknown = set(_PLACEHOLDER.findall(str(key))) - set(names)
    if unknown:
        raise UsageError(f"--key {key}: {{{min(unknown)}}} stands for nothing", "there are {site}, {account}, {user}")
    return Path(_PLACEHOLDER.sub(lambda found: names[found[1]], str(key)))


def key_path(key: Optional[Path], *, allow_agent_key: bool = True) -> Optional[Path]:
    """The key's absolute path, None for the agent's keys.

    Raises:
        UsageError: ssh could not use it without asking.
    """
    if key is None:
        return None
    try:
        path = key.expanduser().absolute()
    except RuntimeError as err:
        raise UsageError(f"--key {key}: {err}", "name the private key of the account") from None
    check_key_file(path, allow_agent_key=allow_agent_key)
    return path
