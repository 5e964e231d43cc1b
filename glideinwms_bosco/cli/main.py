# SPDX-License-Identifier: Apache-2.0
"""Entry point of `gwms-bosco <noun> <verb>`: exit status 0 ok, 1 refused, 2 usage, 3 remote."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn, Optional

from glideinwms_bosco import __version__
from glideinwms_bosco.cli import bundle, entry, output, remote, site
from glideinwms_bosco.errors import EXIT_OK, EXIT_REFUSED, BoscoError

DEBUG_VARIABLE = "GWMS_BOSCO_DEBUG"
_EXIT_SIGNALLED = 128
# A terminal that goes away, or a service manager, ends a command as Ctrl-C does: connections closed, jobs removed.
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class _Ended(KeyboardInterrupt):
    """A signal other than SIGINT has ended the command."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


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
    _mend_standard_streams()
    args = build_parser().parse_args(argv)
    for number in _ENDING_SIGNALS:
        # `nohup` and its like have it ignored: that stays.
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)
    try:
        status = int(args.run(args))
        sys.stdout.flush()
        return status
    except BoscoError as error:
        output.print_error(error)
        return error.exit_status
    except KeyboardInterrupt as ended:
        print("gwms-bosco: interrupted", file=sys.stderr)
        return _EXIT_SIGNALLED + (ended.number if isinstance(ended, _Ended) else signal.SIGINT)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`).
        _flush_or_drop()
        return EXIT_OK
    except OSError as error:
        _flush_or_drop()
        what = f"{error.filename}: " if error.filename else ""
        output.print_error(BoscoError(f"{what}{error.strerror or error}"))
        return EXIT_REFUSED
    except Exception as error:
        # Our mistake, whatever it is; the operator gets one line all the same.
        _flush_or_drop()
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        hint = f"please report it, with the output under {DEBUG_VARIABLE}=1"
        output.print_error(BoscoError(f"internal error: {type(error).__name__}: {error}", hint))
        return EXIT_REFUSED


def _mend_standard_streams() -> None:
    """Open /dev/null where standard streams are closed: the next file or socket would take their place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - lives as long as the process
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _flush_or_drop() -> None:
    """Write what is waiting; let go what cannot be written, or Python complains about it once more at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(number: int, _frame: Optional[FrameType]) -> NoReturn:
    raise _Ended(number)


if __name__ == "__main__":
    sys.exit(main())
