# SPDX-License-Identifier: Apache-2.0
"""The frame of our three programs: run one verb; whatever happens is one line and an exit status.

0 done, 1 refused, 2 wrong call, 3 the remote side; 128 and the signal's number when a signal has ended it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn, Optional

from glideinwms_bosco.cli import output
from glideinwms_bosco.errors import EXIT_OK, EXIT_REFUSED, BoscoError

DEBUG_VARIABLE = "GWMS_BOSCO_DEBUG"
EXIT_SIGNALLED = 128
# A terminal that goes away, or a service manager, ends a command as Ctrl-C does: connections closed, jobs removed.
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)

Run = Callable[[argparse.Namespace], int]


class _Commands(argparse._SubParsersAction):  # type: ignore[type-arg]  # argparse has no public name for it
    """Nouns and verbs; each says in its own help what the list of commands says of it."""

    def add_parser(self, name: str, **given: Any) -> Any:
        parser = super().add_parser(name, **{"description": given.get("help"), **given})
        parser.set_defaults(called=parser)
        return parser


class CommandParser(argparse.ArgumentParser):
    """A command line whose errors name the help that has the right call."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.register("action", "parsers", _Commands)

    def error(self, message: str) -> NoReturn:
        """End with status 2, as a line of the form that all our errors have."""
        super().error(f"{message}; see: {self.prog} --help")

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse lets go what cannot be written only from Python 3.11 on.
        with contextlib.suppress(OSError):
            super()._print_message(message, file)


class _Ended(KeyboardInterrupt):
    """A signal other than SIGINT has ended the command."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def add_noun(nouns: Any, name: str, text: str, example: str) -> Any:
    """Add a noun with its line of help and an example; what is returned takes its verbs."""
    parser: argparse.ArgumentParser = nouns.add_parser(name, help=text, epilog=f"example: {example}")
    return parser.add_subparsers(dest="verb", metavar="VERB", required=True)


def add_verb(
    verbs: Any, name: str, run: Run, text: str, example: str, as_json: bool = False
) -> argparse.ArgumentParser:
    """Add a verb with its line of help and its example."""
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, epilog=f"example: {example}")
    parser.set_defaults(run=run)
    if as_json:
        parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def run_program(build: Callable[[], argparse.ArgumentParser], argv: Optional[Sequence[str]]) -> int:
    """Run one command of a program.

    Args:
        build: makes its command line; each verb sets `run`.
        argv: without the program's name; None takes the process's own.

    Returns:
        The exit status.
    """
    _mend_standard_streams()
    parser = build()
    try:
        args = _parsed(parser, argv)
    except SystemExit:
        _flush_or_drop()
        raise
    for number in _ENDING_SIGNALS:
        # `nohup` and its like have it ignored: that stays.
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)
    try:
        status = int(args.run(args))
        sys.stdout.flush()
        return status
    except BoscoError as error:
        _flush_or_drop()
        output.print_error(error, parser.prog)
        return error.exit_status
    except KeyboardInterrupt as ended:
        _flush_or_drop()
        return EXIT_SIGNALLED + (ended.number if isinstance(ended, _Ended) else signal.SIGINT)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`).
        _flush_or_drop()
        return EXIT_OK
    except OSError as error:
        # The error of a stream does not say of which; what cannot be written is still waiting in it.
        written = _flush_or_drop()
        what = error.filename or ("" if written else "standard output")
        what = f"{what}: " if what else ""
        output.print_error(BoscoError(f"{what}{error.strerror or error}"), parser.prog)
        return EXIT_REFUSED
    except Exception as error:
        # Our mistake, whatever it is; the operator gets one line all the same.
        _flush_or_drop()
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        hint = f"please report it, with the output under {DEBUG_VARIABLE}=1"
        output.print_error(BoscoError(f"internal error: {type(error).__name__}: {error}", hint), parser.prog)
        return EXIT_REFUSED


def _parsed(parser: argparse.ArgumentParser, argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Parse the command line; an option that is not known is refused by the verb, which knows the right ones."""
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        getattr(args, "called", parser).error(f"unrecognized arguments: {' '.join(unknown)}")
    return args


def allow_open_files() -> None:
    """For a daemon: have as many files open as the service manager allows; the default of 1024 is for select(2)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _mend_standard_streams() -> None:
    """Open /dev/null where standard streams are closed: the next file or socket would take their place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - lives as long as the process
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _flush_or_drop() -> bool:
    """Write what is waiting; let go what cannot be written, or Python complains about it once more at exit.

    Returns:
        Whether it could be written.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _end(number: int, _frame: Optional[FrameType]) -> NoReturn:
    raise _Ended(number)
