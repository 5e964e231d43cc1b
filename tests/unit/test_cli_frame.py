# SPDX-License-Identifier: Apache-2.0
"""What our three programs have in common: exit status, one line per error, quiet ends."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glideinwms_bosco.cli import main as bosco
from glideinwms_bosco.cli import ssh_broker, ssh_relay
from glideinwms_bosco.cli.frame import run_program
from glideinwms_bosco.errors import LinkError, RelayError, UsageError

ROOT = Path(__file__).parents[2]
PROGRAMS = {"gwms-bosco": bosco, "gwms-ssh-broker": ssh_broker, "gwms-ssh-relay": ssh_relay}
Capture = pytest.CaptureFixture[str]


def _raise(error: BaseException) -> int:
    raise error


def _run(action: Callable[[], int]) -> int:
    def build() -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(prog="program")
        parser.set_defaults(run=lambda _args: action())
        return parser

    return run_program(build, [])


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (RelayError("no relay", "start it"), 1, "program: error: no relay; start it"),
        (UsageError("wrong"), 2, "program: error: wrong"),
        (LinkError("cut"), 3, "program: error: cut"),
        (RelayError("two\nlines \x1b[2J"), 1, "program: error: two?lines ?[2J"),
        (PermissionError(13, "Permission denied", "/x"), 1, "program: error: /x: Permission denied"),
        (ValueError("odd"), 1, "program: error: internal error: ValueError: odd; please report it"),
        (RecursionError(), 1, "program: error: internal error: RecursionError"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_is_one_line(capsys: Capture, error: Exception, status: int, line: str) -> None:
    assert _run(lambda: _raise(error)) == status
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(line)


def test_interrupt_and_lost_reader_are_quiet(capsys: Capture) -> None:
    assert _run(lambda: _raise(KeyboardInterrupt())) == 130
    assert _run(lambda: _raise(BrokenPipeError())) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_signal_ends_a_command_as_an_interrupt_does(number: signal.Signals, capsys: Capture) -> None:
    cleaned = []

    def action() -> int:
        try:
            os.kill(os.getpid(), number)
            return 0
        finally:
            cleaned.append(True)

    signal.signal(number, signal.SIG_DFL)
    assert _run(action) == 128 + number
    assert cleaned == [True]
    assert capsys.readouterr() == ("", "")


def _verbs(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield parser
    for action in below:
        for verb in action.choices.values():
            yield from _verbs(verb)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_verb_has_help_with_an_example_of_it(program: str) -> None:
    for verb in _verbs(PROGRAMS[program].build_parser()):
        assert f"example: {verb.prog}" in " ".join(verb.format_help().split())


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("--help | true", 0),
        ("--help >&-", 0),
        ("--version >/dev/full", 0),
        ("nonsense 2>&-", 2),
        ("", 2),
    ],
)
def test_no_traceback_whatever_the_streams_are(program: str, words: str, status: int) -> None:
    command = f"{sys.executable} -m {PROGRAMS[program].__name__} {words}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, cwd=ROOT, timeout=30)
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
