# SPDX-License-Identifier: Apache-2.0
"""Entry point of `gwms-ssh-broker VERB`: the daemon and its administration; exit status as of gwms-bosco."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco import __version__
from glideinwms_bosco.broker import admin
from glideinwms_bosco.broker.audit_check import follow, verify
from glideinwms_bosco.broker.audit_head import heads_of_journal
from glideinwms_bosco.broker.paths import IDENTITY_NAME, broker_paths
from glideinwms_bosco.broker.process import forbid_dumps
from glideinwms_bosco.broker.service import run_broker
from glideinwms_bosco.broker.status_file import read_status
from glideinwms_bosco.cli import output, ssh_broker_factory, ssh_broker_keys
from glideinwms_bosco.cli.daemon_account import add_user_option, daemon_account, give_to_owner_of, make_folder
from glideinwms_bosco.cli.frame import CommandParser, add_verb, allow_open_files, run_program
from glideinwms_bosco.cli.ssh_broker_policy import PROGRAM, read_identity
from glideinwms_bosco.errors import EXIT_OK, EXIT_REFUSED, BrokerError, RemoteError, UsageError
from glideinwms_bosco.link.channel import MAX_CLOCK_SKEW_S
from glideinwms_bosco.link.tls import load_identity, make_identity

_FOLDER_MODE = 0o750
_FOLLOW_S = 0.5
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""Level -> priority of a journal line, `<N>` in front. Source: sd-daemon(3)."""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; docs and man pages are generated from it too."""
    parser = CommandParser(
        prog=PROGRAM,
        description="Keeps a frontend's ssh keys and signs with them what its policy allows.",
        epilog="example: gwms-ssh-broker status",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    add_verb(verbs, "run", _run, "run the daemon in the foreground", "gwms-ssh-broker run")
    init = add_verb(
        verbs, "init", _init, "make the folders, the broker's identity and an empty policy; show its pin",
        "gwms-ssh-broker init",
    )  # fmt: skip
    add_user_option(init, PROGRAM)
    ssh_broker_keys.add_commands(verbs)
    ssh_broker_factory.add_commands(verbs)
    audit = add_verb(verbs, "audit", _audit, "read the audit log", "gwms-ssh-broker audit --verify", as_json=True)
    how = audit.add_mutually_exclusive_group()
    how.add_argument("--verify", action="store_true", help="find what was removed, altered or inserted")
    how.add_argument("--follow", action="store_true", help="go on with lines as they are written")
    audit.add_argument(
        "--journal", type=Path, metavar="FILE", help="with --verify: output of journalctl, for its heads"
    )
    add_verb(verbs, "status", _status, "show what the running broker does", "gwms-ssh-broker status", as_json=True)
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one command; every error becomes one line and an exit status."""
    return run_program(build_parser, argv)


class _Lines(logging.Formatter):
    """One line for each record, whatever stands in it; with a priority where the journal reads."""

    def __init__(self, journal: bool) -> None:
        super().__init__("%(message)s" if journal else "%(asctime)s %(levelname)s %(message)s")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        line = output.printable(super().format(record).replace("\n", " | "))
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{line}" if self._journal else line


def _run(_args: argparse.Namespace) -> int:
    forbid_dumps()
    allow_open_files()
    # Nothing that the daemon writes is for everybody; the status file asks for its mode itself.
    os.umask(0o027)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines("JOURNAL_STREAM" in os.environ))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    run_broker(broker_paths())
    return EXIT_OK


def _init(args: argparse.Namespace) -> int:
    paths, account = broker_paths(), daemon_account(args)
    make_folder(paths.config_dir, _FOLDER_MODE, account, roots=True)
    for folder in (paths.state_dir, paths.log_dir):
        make_folder(folder, _FOLDER_MODE, account)
    if paths.certificate.exists():
        identity = load_identity(paths.certificate, paths.key)
    else:
        identity = make_identity(paths.state_dir, IDENTITY_NAME)
        give_to_owner_of(paths.state_dir, paths.certificate, paths.key)
    if not paths.policy.exists():
        admin.create(paths.policy)
        group = paths.config_dir.stat().st_gid
        if os.geteuid() == 0:
            os.chown(paths.policy, 0, group)
    print(f"broker {identity.pin}")
    print(f"policy {paths.policy}")
    return EXIT_OK


def _audit(args: argparse.Namespace) -> int:
    paths = broker_paths()
    if args.verify:
        return _verify(args)
    if args.journal:
        raise UsageError("--journal is of use with --verify only")

    def wait() -> bool:
        if args.follow:
            sys.stdout.flush()
            time.sleep(_FOLLOW_S)
        return bool(args.follow)

    for line in follow(paths.log_dir, wait, from_start=not args.follow):
        print(json.dumps(line.record) if args.json else output.printable(_audit_line(line.record)))
    return EXIT_OK


def _audit_line(record: Mapping[str, Any]) -> str:
    left_out = ("seq", "t", "prev", "event", "claimed")
    words = [f"{name}={value}" for name, value in record.items() if name not in left_out and value not in (None, 0)]
    return f"{record.get('t')} {record.get('seq')} {record.get('event')} {' '.join(words)}"


def _verify(args: argparse.Namespace) -> int:
    paths = broker_paths()
    heads = heads_of_journal(args.journal.read_text("utf-8", "replace")) if args.journal else ()
    report = verify(paths.log_dir, heads, read_identity(paths).pin)
    last = report.last
    if args.json:
        output.print_json(
            {
                "lines": report.lines,
                "first": report.first_seq,
                "last": last.seq if last else None,
                "heads": report.compared_heads,
                "findings": [str(finding) for finding in report.findings],
            }
        )
    else:
        for finding in report.findings:
            print(output.printable(str(finding)))
        word = "NOT whole" if report.findings else "whole"
        heads_word = output.counted(report.compared_heads, "head")
        print(f"{word}: {output.counted(report.lines, 'line')}, compared with {heads_word}")
    return EXIT_REFUSED if report.findings else EXIT_OK


def _status(args: argparse.Namespace) -> int:
    paths = broker_paths()
    try:
        status = read_status(paths.status, paths.pid)
    except BrokerError as error:
        # What failed is the daemon that was asked; nothing of this call is refused.
        raise RemoteError(error.message, error.hint) from None
    if args.json:
        output.print_json(status)
        return EXIT_OK
    counts = f"{output.counted(status['signed'], 'signature')}, {output.counted(status['denied'], 'refusal')}"
    print(f"broker  {status['broker']} pid {status['pid']}, up since {_clock(status['started'])}: {counts}")
    if status["policy"]["trouble"]:
        print(output.printable(f"policy  the file is not in use: {status['policy']['trouble']}"))
    for name, entry in status["entries"].items():
        print(output.printable(f"key     {name:<24} {_key_state(entry)}"))
    for name, factory in status["factories"].items():
        print(output.printable(f"factory {name:<24} {_factory_state(factory)}"))
        for handle, reason in factory["refused"].items():
            print(output.printable(f"        {handle} refused by its relay: {reason}"))
    return EXIT_OK


def _key_state(entry: Mapping[str, Any]) -> str:
    state = entry["trouble"] or ("ready" if entry["enabled"] else "disabled: every request is refused")
    return f"{state}; maintenance open until {_clock(entry['open_until'])}" if entry["open_until"] else str(state)


def _factory_state(factory: Mapping[str, Any]) -> str:
    if not factory["up"]:
        return f"DOWN since {_clock(factory['since'])}: {factory['trouble']}"
    words = [f"up since {_clock(factory['since'])}: {output.counted(factory['offered'], 'handle')} offered"]
    if factory["rtt_ms"] is not None:
        words.append(f"round trip {factory['rtt_ms']} ms")
    if abs(factory["clock_skew_s"]) > MAX_CLOCK_SKEW_S:
        words.append(f"its clock is {factory['clock_skew_s']:+.0f} s from ours, so that it gets no certificates")
    return ", ".join(words)


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


if __name__ == "__main__":
    sys.exit(main())
