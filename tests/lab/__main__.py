# SPDX-License-Identifier: Apache-2.0
"""Command line of the lab: `python3 -m tests.lab up|down|status|rootfs|ensure|exec|shell`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn, Optional

from tests.lab.lab import Lab
from tests.lab.settings import CACHE_ENV, EXTRA_HOSTS, HOSTS, NAME_ENV, PROFILE_ENV, PROFILES, LabError

EXIT_FAILED = 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.lab", description="Real hosts in name spaces, for tests.", epilog=f"Cache: {CACHE_ENV}."
    )
    parser.add_argument("--name", help=f"name of the lab (default: {NAME_ENV}, else gwms)")
    parser.add_argument("--profile", choices=PROFILES, help=f"what the hosts are made of (default: {PROFILE_ENV})")
    nouns = parser.add_subparsers(dest="verb", required=True)
    nouns.add_parser("up", help="bring the lab up, or say that it is")
    nouns.add_parser("down", help="remove every trace but the cached root file systems")
    nouns.add_parser("status", help="one line per host; exit status 0 if the lab is up")
    nouns.add_parser("rootfs", help="print the folder of the factory's root file system, built if it is missing")
    nouns.add_parser("ensure", help="start an extra host").add_argument("extra", choices=EXTRA_HOSTS)
    for verb, text in (("shell", "a login shell in a host"), ("exec", "run a command: exec HOST -- CMD...")):
        sub = nouns.add_parser(verb, help=text)
        sub.add_argument("host", choices=HOSTS)
        sub.add_argument("--user", default="root")
    return parser


def _enter(lab: Lab, options: argparse.Namespace, argv: Sequence[str]) -> NoReturn:
    """Become the command, or a login shell."""
    env = {"TERM": os.environ.get("TERM", "dumb")}
    full = lab.host(options.host).entry_argv(argv, options.user, env)
    os.execvp(full[0], full)  # noqa: S606 - an argv list, no shell wanted


def _split(args: Sequence[str]) -> tuple[list[str], bool, list[str]]:
    """Split at the first `--`: our arguments, whether there was one, the command's arguments."""
    words = list(args)
    if "--" not in words:
        return words, False, []
    at = words.index("--")
    return words[:at], True, words[at + 1 :]


def main(args: Optional[Sequence[str]] = None) -> int:
    """Run the command line and return its exit status."""
    ours, dashes, command = _split(sys.argv[1:] if args is None else args)
    parser = _parser()
    options = parser.parse_args(ours)
    if (options.verb == "exec") != bool(command) or (dashes and not command):
        parser.error("a command after -- belongs to exec, and exec needs one")
    try:
        lab = Lab(options.name, options.profile, say=lambda line: print(line, flush=True))
        if options.verb == "up":
            lab.up()
        elif options.verb == "down":
            lab.down()
        elif options.verb == "ensure":
            lab.ensure(options.extra)
        elif options.verb == "rootfs":
            print(lab.provide_rootfs("factory"))
        elif options.verb == "status":
            for host, how in lab.status().items():
                print(f"{host:13} {how}")
            return 0 if lab.is_up() else EXIT_FAILED
        else:
            _enter(lab, options, command or ["bash", "-l"])
    except LabError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
