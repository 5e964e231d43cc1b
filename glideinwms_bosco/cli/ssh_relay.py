# SPDX-License-Identifier: Apache-2.0
"""Entry point of `gwms-ssh-relay VERB`: the factory's relay for signatures of frontends' brokers."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco import __version__
from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.daemon_account import add_user_option, daemon_account
from glideinwms_bosco.cli.frame import CommandParser, add_verb, allow_open_files, run_program
from glideinwms_bosco.errors import (
    EXIT_OK,
    EXIT_REFUSED,
    BoscoError,
    Problem,
    RelayError,
    RelayFileError,
    RemoteError,
    UsageError,
)
from glideinwms_bosco.link.channel import MAX_CLOCK_SKEW_S
from glideinwms_bosco.relay.client_conf import sends_session_bind
from glideinwms_bosco.relay.conf import DEFAULT_CONF, RelayConf, conf_path, load_conf, read_conf
from glideinwms_bosco.relay.service import STATUS_EVERY_S, Relay, identity_files, new_identity, ssh_version
from glideinwms_bosco.relay.status_query import clock, status_file

PROGRAM = "gwms-ssh-relay"
_LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"
_SHIM_HINT = (
    "name the folder of the installed one, /usr/libexec/gwms-bosco/shim; if it is gone: dnf reinstall "
    "glideinwms-bosco-factory; without packages: ln -s PATH/gwms-ssh-shim FOLDER/ssh"
)
_STALE_AFTER_S = 3 * STATUS_EVERY_S


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; docs and man pages are generated from it too."""
    parser = CommandParser(
        prog=PROGRAM,
        description="The factory's relay for signatures of frontends' brokers.",
        epilog="example: gwms-ssh-relay status",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument("--conf", metavar="FILE", help=f"relay.conf to use (default: {DEFAULT_CONF})")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    add_verb(verbs, "run", _run, "serve until SIGTERM; SIGHUP reads relay.conf again", "gwms-ssh-relay run")
    init = add_verb(
        verbs, "init", _init, "make the relay's key and print what frontends need to know of it",
        "gwms-ssh-relay init --host gfactory-2.example.org",
    )  # fmt: skip
    init.add_argument(
        "--host", metavar="NAME", help="name by which brokers reach this host (default: HOST)", default="HOST"
    )
    add_user_option(init, PROGRAM)
    add_verb(verbs, "check", _check, "check relay.conf and what it needs on this host", "gwms-ssh-relay check", True)
    add_verb(verbs, "status", _status, "show the brokers and how it stands with them", "gwms-ssh-relay status", True)
    add_verb(verbs, "handles", _handles, "show the handles that brokers offer", "gwms-ssh-relay handles --json", True)
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one command; every error becomes one line and an exit status."""
    return run_program(build_parser, argv)


def _conf_file(args: argparse.Namespace) -> Path:
    path = conf_path(args.conf)
    if not path.exists():
        hint = "glideinwms-bosco-factory brings one, to be edited; --conf FILE names another"
        raise UsageError(f"{path}: there is no such file", hint)
    return path


def _run(args: argparse.Namespace) -> int:
    allow_open_files()
    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT, stream=sys.stderr)
    asyncio.run(_serve(_conf_file(args)))
    return EXIT_OK


async def _serve(path: Path) -> None:
    relay = Relay(load_conf(path))
    loop = asyncio.get_running_loop()
    ending, reloading = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    loop.add_signal_handler(signal.SIGHUP, reloading.set)
    reloader = asyncio.ensure_future(_reload_when_asked(relay, path, reloading))
    try:
        await relay.start()
        await ending.wait()
    finally:
        reloader.cancel()
        await relay.stop()


async def _reload_when_asked(relay: Relay, path: Path, asked: asyncio.Event) -> None:
    while True:
        await asked.wait()
        asked.clear()
        try:
            await relay.reload(load_conf(path))
        except BoscoError as error:
            logging.error("relay.conf is not read again, the old one stays: %s", error)


def _init(args: argparse.Namespace) -> int:
    conf, account = read_conf(_conf_file(args)), daemon_account(args)
    folder = conf.identity.parent
    if not folder.is_dir():
        hint = f"mkdir {folder}, or name another `identity` in {conf.file}"
        raise RelayError(f"{folder}: there is no such folder", hint)
    identity = new_identity(conf)
    if account is not None:
        os.chown(identity.key_file, account.pw_uid, account.pw_gid)
    owner = f"; the key belongs to {account.pw_name}" if account else ""
    print(f"made {identity.key_file} and {identity.cert_file}{owner}")
    print(f"pin: {identity.pin}")
    print("tell it to the frontends' administrators, and publish it in the factory's configuration:")
    for name, value in (
        ("GlideFactorySshRelay", f"{args.host}:{conf.port}"),
        ("GlideFactorySshRelaySPKI", identity.pin),
    ):
        print(
            f'  <attr name="{name}" const="True" glidein_publish="False" job_publish="False" parameter="True" '
            f'publish="True" type="string" value="{value}"/>'
        )
    return EXIT_OK


def _check(args: argparse.Namespace) -> int:
    conf: Optional[RelayConf] = None
    try:
        conf = load_conf(_conf_file(args))
        problems = _host_problems(conf)
    except RelayFileError as error:
        problems = list(error.problems)
    if conf is not None and not any(problem.severity == "error" for problem in problems):
        facts = {
            "brokers": len(conf.brokers),
            "port": conf.port,
            "pin": identity_files(conf).pin,
            "proof": _proof(conf),
        }
    else:
        facts = {}
    if args.json:
        output.print_json({"ok": bool(facts), "problems": [asdict(problem) for problem in problems], **facts})
        return EXIT_OK if facts else EXIT_REFUSED
    output.print_problems(problems)
    if conf is None or not facts:
        return EXIT_REFUSED
    print(f"{conf.file}: {output.counted(len(conf.brokers), 'broker')}, port {conf.port}, pin {facts['pin']}")
    print(f"proof of destination by {facts['proof']}")
    return EXIT_OK


def _proof(conf: RelayConf) -> str:
    """What tells the broker where a login goes."""
    tap = conf.tap == "always" or (conf.tap == "auto" and not sends_session_bind(ssh_version(conf.ssh)))
    return "the tap" if tap else "session-bind"


def _host_problems(conf: RelayConf) -> list[Problem]:
    problems = []

    def found(field: str, message: str, hint: str, severity: str = "error") -> None:
        problems.append(Problem(conf.file, 0, field, message, hint, severity))

    programs = (
        ("remote_gahp", conf.remote_gahp, "install HTCondor, or name its remote_gahp"),
        ("ssh", conf.ssh, "install the OpenSSH client"),
        ("shim_dir", conf.shim_dir / "ssh", _SHIM_HINT),
        *((("tap_program", conf.tap_program, "install it, or set tap to never"),) if conf.tap != "never" else ()),
    )
    for field, program, hint in programs:
        if not os.access(program, os.X_OK) or not program.is_file():
            found(field, f"{program} is not there or cannot be run", hint)
    try:
        identity_files(conf)
    except BoscoError as error:
        found("identity", error.message, "run: gwms-ssh-relay init")
    if not conf.socket_dir.parent.is_dir():
        found("socket_dir", f"{conf.socket_dir.parent} is not there", "make it, or let the service manager do so")
    for path in conf.ssh_include:
        if not path.exists():
            found("ssh_include", f"{path} is not there", "jump hosts are not known until it is", "warning")
    if not conf.brokers:
        found("brokers", "is empty", "no frontend can connect", "warning")
    return problems


def _relay_status(args: argparse.Namespace) -> dict[str, Any]:
    conf = read_conf(_conf_file(args))
    status = status_file(conf.socket_dir)
    if status is None:
        raise RemoteError(f"no relay is running: {conf.socket_dir} has no status.json", "start gwms-ssh-relay")
    age_s = time.time() - float(status.get("updated", 0))
    if age_s > _STALE_AFTER_S:
        raise RemoteError(f"the relay is gone or hangs: its status is {age_s:.0f} s old", "restart gwms-ssh-relay")
    if status.get("version") != 1:
        raise RemoteError("status.json is of another release", "restart gwms-ssh-relay")
    return status


def _status(args: argparse.Namespace) -> int:
    status = _relay_status(args)
    if args.json:
        output.print_json(status)
        return EXIT_OK
    place = f"on {status['listen']} port {status['port']}, up since {clock(status['started'])}"
    print(f"relay   {status['pin']} {place}, {output.counted(status['connections'], 'agent connection')}")
    for side in status["brokers"]:
        print(output.printable(f"broker  {side['name']:<24} {_side(side)}  ({side['frontend']})"))
    return EXIT_OK


def _side(side: Mapping[str, Any]) -> str:
    if side["state"] != "up":
        waiting = output.counted(side["handles"], "handle waits", "handles wait")
        return f"DOWN since {clock(side['since'])}" + (f", {waiting} for it" if side["handles"] else "")
    words = [f"up since {clock(side['since'])}: {output.counted(side['handles'], 'handle')}"]
    if side["rtt_ms"] is not None:
        words.append(f"round trip {side['rtt_ms']} ms")
    if abs(side["clock_skew_s"]) > MAX_CLOCK_SKEW_S:
        words.append(f"its clock is {side['clock_skew_s']:+.0f} s from ours")
    words.append(f"{output.counted(side['connections'], 'agent connection')}, from {side['address']}")
    return ", ".join(words)


def _handles(args: argparse.Namespace) -> int:
    rows = _relay_status(args)["handles"]
    if args.json:
        output.print_json(rows)
        return EXIT_OK
    if not rows:
        print("no broker offers a handle", file=sys.stderr)
    for row in rows:
        last = row["last_deny"]
        denied = f", last refusal {clock(last['t'])}: {last['code']} {last['reason']}" if last else ""
        where = f"{row['user']}@{','.join(row['hosts'])}"
        print(output.printable(f"{row['handle']} {row['purpose']} {where} {row['name']} {row['broker']}{denied}"))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
