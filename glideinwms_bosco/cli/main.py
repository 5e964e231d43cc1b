# SPDX-License-Identifier: Apache-2.0
"""Entry point of `gwms-bosco <noun> <verb>`: exit status 0 ok, 1 refused, 2 usage, 3 remote."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn, Optional

from glideinwms_bosco import __version__
from glideinwms_bosco.cli import bundle, entry, output, remote, site
from glideinwms_bosco.errors import EXIT_OK, BoscoError

_EXIT_SIGNALLED = 128


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; docs and man pages are generated from it too."""
    parser = argparse.ArgumentParser(
        prog="gwms-bosco",
        description="glideinWMS entries for sites that offer only ssh and a batch queue.",
        epilog="example: gwms-bosco site check /etc/gwms-bosco/sites.d/nersc.yaml",
    )
    parser.add_argument("--version", action="version", version=f"gwms-bosco {__version__}")
    nouns = parser.add_subparsers(metavar="NOUN", required=True)
    for module in (site, entry, bundle, remote):
        module.add_commands(nouns)
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one command; every error becomes one line and an exit status."""
    args = build_parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        status = int(args.run(args))
        sys.stdout.flush()
        return status
    except BoscoError as error:
        output.print_error(error)
        return error.exit_status
    except KeyboardInterrupt:
        print("gwms-bosco: interrupted", file=sys.stderr)
        return _EXIT_SIGNALLED + signal.SIGINT
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK


def _interrupt(_number: int, _frame: Optional[FrameType]) -> NoReturn:
    """SIGTERM ends a command as Ctrl-C does: connections are closed, temporary files removed."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
