# SPDX-License-Identifier: Apache-2.0
"""Man pages, bash completion and docs/commands, all written from the programs' own parsers and schemas."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from glideinwms_bosco import __version__
from glideinwms_bosco.atomic import write_atomic
from glideinwms_bosco.cli import main as bosco
from glideinwms_bosco.cli import ssh_broker, ssh_relay
from glideinwms_bosco.cli.command_line import read_command_line
from glideinwms_bosco.cli.completion import bash_completion
from glideinwms_bosco.cli.frame import CommandParser, run_program
from glideinwms_bosco.cli.manual_formats import POLICY, RELAY_CONF, SETTINGS, SITE_FILE, file_formats
from glideinwms_bosco.cli.manual_pages import (
    FORMATS,
    Program,
    file_man_page,
    file_markdown_page,
    man_page,
    markdown_index,
    markdown_page,
)
from glideinwms_bosco.errors import EXIT_OK, UsageError

_FILE_MODE = 0o644
_COMMANDS, _DAEMONS = 1, 8
"""Sections of the manual. Source: man-pages(7)."""

_BOSCO_ENVIRONMENT = (
    ("GWMS_BOSCO_CONFIG", "the settings file in place of /etc/gwms-bosco/gwms-bosco.yaml"),
    ("GWMS_BOSCO_SITES", "the folder of site files in place of /etc/gwms-bosco/sites.d"),
    ("GWMS_BOSCO_CONFIG_D", "where entries are written in place of /etc/gwms-factory/config.d"),
    ("GWMS_BOSCO_STATE", "the state folder in place of /var/lib/gwms-bosco"),
    ("GWMS_BOSCO_OVERRIDES", "files laid over bundles, in place of /etc/gwms-bosco/overrides"),
    ("GWMS_BOSCO_SCRIPTS", "the pilot scripts in place of those installed with the program"),
    ("GWMS_BOSCO_DEBUG", "set: a traceback with an internal error"),
)
_BOSCO_FILES = (
    ("/etc/gwms-bosco/gwms-bosco.yaml", "settings of this host; may be missing"),
    ("/etc/gwms-bosco/sites.d/*.yaml", "one file for each site"),
    ("/etc/gwms-bosco/overrides/SYSTEM/", "files laid over the bundles of a batch system"),
    ("/etc/gwms-factory/config.d/", "the rendered entries, which reconfig reads"),
    ("/var/lib/gwms-bosco/", "bundles, ssh client settings, what was done to which account"),
)
_BROKER_ENVIRONMENT = (
    ("GWMS_SSH_BROKER_DIR", "the policy's folder in place of /etc/gwms-ssh-broker"),
    ("GWMS_SSH_BROKER_STATE", "the state folder in place of /var/lib/gwms-ssh-broker"),
    ("GWMS_SSH_BROKER_LOG", "the audit log's folder in place of /var/log/gwms-ssh-broker"),
    ("GWMS_BOSCO_DEBUG", "set: a traceback with an internal error"),
)
_BROKER_FILES = (
    ("/etc/gwms-ssh-broker/", "policy, encrypted keys"),
    ("/var/lib/gwms-ssh-broker/", "the broker's identity"),
    ("/var/log/gwms-ssh-broker/audit.jsonl", "each decision, a line each, chained"),
)
_RELAY_ENVIRONMENT = (
    ("GWMS_SSH_RELAY_CONF", "relay.conf to use in place of /etc/gwms-ssh-relay/relay.conf"),
    ("GWMS_BOSCO_DEBUG", "set: a traceback with an internal error"),
)
_RELAY_FILES = (
    ("/etc/gwms-ssh-relay/relay.conf", "brokers, their pins, whose credential files each may serve"),
    ("/run/gwms-ssh-relay/", "agent sockets, status"),
    (
        "/usr/libexec/gwms-bosco/gwms_remote_gahp",
        "REMOTE_GAHP of HTCondor: a handle goes through the relay, any other call to HTCondor's own remote_gahp as it "
        "is; it takes the arguments of that one and has none of its own",
    ),
    (
        "/usr/libexec/gwms-bosco/shim/ssh",
        "gwms-ssh-shim: ssh with a handle's configuration, and the reason when it fails; gwms_remote_gahp starts it",
    ),
    (
        "/usr/bin/gwms-ssh-tap",
        "ProxyCommand of ssh clients older than 8.9: `gwms-ssh-tap HOST PORT SOCKET [USER@NAME]`; only ssh starts it",
    ),
)


def programs() -> tuple[Program, ...]:
    """Our programs that people call."""
    return (
        Program(
            read_command_line(bosco.build_parser()), _COMMANDS, __version__, _BOSCO_ENVIRONMENT, _BOSCO_FILES,
            (SITE_FILE, SETTINGS),
        ),
        Program(
            read_command_line(ssh_broker.build_parser()), _DAEMONS, __version__, _BROKER_ENVIRONMENT, _BROKER_FILES,
            (POLICY,),
        ),
        Program(
            read_command_line(ssh_relay.build_parser()), _DAEMONS, __version__, _RELAY_ENVIRONMENT, _RELAY_FILES,
            (RELAY_CONF,),
        ),
    )  # fmt: skip


def man_files() -> dict[str, str]:
    """File name such as `gwms-bosco-site.1` -> man page."""
    commands = {
        f"{page.page}.{program.section}": man_page(program, page) for program in programs() for page in program.pages
    }
    return {**commands, **{f"{given.name}.{FORMATS}": file_man_page(given, __version__) for given in file_formats()}}


def completion_files() -> dict[str, str]:
    """File name, which is the program's -> bash completion. Source: bash-completion, README, FAQ on file names."""
    return {program.command.name: bash_completion(program.command) for program in programs()}


def markdown_files() -> dict[str, str]:
    """File name -> page of docs/commands; the fields of site files stand in docs/site-file.md."""
    pages = {f"{page.page}.md": markdown_page(program, page) for program in programs() for page in program.pages}
    formats = [given for given in file_formats() if given.name != SITE_FILE]
    files = {f"{given.name}.md": file_markdown_page(given) for given in formats}
    return {"index.md": markdown_index(programs(), formats), **pages, **files}


def build_parser() -> argparse.ArgumentParser:
    """For packagers and `make commands`; not installed as a program."""
    parser = CommandParser(
        prog="python3 -m glideinwms_bosco.cli.manual",
        description="Write man pages, bash completion and docs/commands from the programs' own help.",
        epilog="example: python3 -m glideinwms_bosco.cli.manual --markdown docs/commands",
    )
    parser.add_argument("--man", type=Path, metavar="DIR", help="write man pages there, such as gwms-bosco-site.1")
    parser.add_argument("--completion", type=Path, metavar="DIR", help="write bash completion there, a file a program")
    parser.add_argument("--markdown", type=Path, metavar="DIR", help="write the pages of docs/commands there")
    parser.set_defaults(run=_run)
    return parser


def _run(args: argparse.Namespace) -> int:
    if not (args.man or args.completion or args.markdown):
        raise UsageError("nothing to write", "use --man DIR, --completion DIR or --markdown DIR")
    for folder, make in ((args.man, man_files), (args.completion, completion_files), (args.markdown, markdown_files)):
        if folder is not None:
            _write(folder, make())
    return EXIT_OK


def _write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_atomic(folder / name, text.encode("utf-8"), _FILE_MODE)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Write what is asked for."""
    return run_program(build_parser, argv)


if __name__ == "__main__":
    sys.exit(main())
