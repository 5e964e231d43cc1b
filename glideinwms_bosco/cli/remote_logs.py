# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco remote logs`: what pilots behind a closed site's firewall have written on the login node."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from glideinwms_bosco.atomic import write_atomic
from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.remote_verb import Outcome, Target, add_target_options, run_targets
from glideinwms_bosco.cli.settings import load_settings
from glideinwms_bosco.errors import UsageError
from glideinwms_bosco.remote.logs import DEFAULT_FILES, MAX_FILES, LogFile, Logs, collect_logs

_FILE_MODE = 0o644


def add_commands(verbs: Any) -> None:
    """Add the verb."""
    logs = verbs.add_parser(
        "logs",
        help="show what pilots of a closed site have written on the login node: tunnels, drains, reasons to give up",
        epilog="example: gwms-bosco remote logs jsc --output /tmp/jsc-logs",
    )
    add_target_options(logs)
    logs.add_argument("--output", type=Path, metavar="DIR", help="write the files below DIR/SITE/ACCOUNT/ instead")
    logs.add_argument(
        "--files",
        type=_files,
        default=DEFAULT_FILES,
        metavar="N",
        help=f"the newest N, of many less of each; a node has one a day (default: {DEFAULT_FILES}, most: {MAX_FILES})",
    )
    logs.set_defaults(run=_logs)


def _files(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= MAX_FILES:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no number from 1 to {MAX_FILES}")
    return int(text)


def _logs(args: argparse.Namespace) -> int:
    def work(target: Target, _advance: output.Advance) -> Outcome:
        with target.session() as session:
            account = session.connection.login.label
            logs = collect_logs(session, target.site.install.folder, args.files)
        written = _write(args.output / target.site.short_name / target.account.name, logs) if args.output else ()
        lines = (*written, *_notes(logs)) if args.output else (*_shown(logs), *_notes(logs))
        report = {"account": account, **asdict(logs), "written": list(written)}
        return Outcome(f"{account}: {output.counted(len(logs.files), 'log file')}", lines, report)

    return run_targets(args, load_settings(), "reading", work, record=False)


def _write(folder: Path, logs: Logs) -> tuple[str, ...]:
    """Write the files; their names are checked where they are read."""
    paths = [folder / file.name for file in logs.files]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, file in zip(paths, logs.files):
            write_atomic(path, "".join(f"{line}\n" for line in file.lines).encode("ascii"), _FILE_MODE)
    except OSError as err:
        raise UsageError(f"{folder}: cannot be written: {err.strerror}", "name another folder") from None
    return tuple(map(str, paths))


def _shown(logs: Logs) -> Iterator[str]:
    # The newest is what is looked for: it stands where the terminal stops.
    for file in reversed(logs.files):
        yield _title(file)
        yield from (f"  {line}" for line in file.lines)


def _title(file: LogFile) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(file.changed_at))
    return f"{file.name} ({file.size} bytes, {at}{', its end' if file.cut else ''})"


def _notes(logs: Logs) -> Iterator[str]:
    if logs.folder is None:
        yield "note: the account has no install folder"
    if logs.more:
        more = min(len(logs.files) + logs.more, MAX_FILES)
        hint = (
            f"; --files {more} shows {'the newest' if more == MAX_FILES else 'all'}" if more > len(logs.files) else ""
        )
        yield f"note: {output.counted(logs.more, 'older file')} left out{hint}"
    if logs.odd:
        yield f"note: {output.counted(logs.odd, 'file')} with a name that no pilot gives"
