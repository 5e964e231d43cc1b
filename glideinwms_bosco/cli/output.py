# SPDX-License-Identifier: Apache-2.0
"""What commands print: findings and errors on stderr, results on stdout, progress only on a terminal."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from glideinwms_bosco.errors import BoscoError, Problem

if TYPE_CHECKING:
    from glideinwms_bosco.cli.publishing import Outcome

Advance = Callable[[int, int], None]
"""Takes what is done and the total, both in bytes."""


# Text of other machines must not move the operator's cursor or set the terminal's title.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def printable(text: str) -> str:
    """One line that is safe on a terminal."""
    return _CONTROL.sub("?", text)


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    print(json.dumps(value, indent=2, sort_keys=True))


class CodeRow(Protocol):
    """A row of a table of codes."""

    @property
    def code(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def what(self) -> str: ...
    @property
    def remedy(self) -> str: ...


def print_codes(page: str, rows: Iterable[CodeRow], as_json: bool) -> None:
    """Print what codes mean: their page in Markdown, or JSON."""
    if as_json:
        fields = ("code", "severity", "what", "remedy")
        print_json([{name: getattr(row, name) for name in fields} for row in rows])
    else:
        print(page, end="")


def print_problems(problems: Sequence[Problem]) -> None:
    """Print findings, one line each, on stderr."""
    for problem in problems:
        print(printable(str(problem)), file=sys.stderr)


def print_error(error: BoscoError, program: str) -> None:
    """Print an error on stderr: one line that names the program, or one per problem of an input file."""
    if error.problems:
        # The last line says why nothing was done.
        print_problems(sorted(error.problems, key=lambda problem: problem.severity == "error"))
    else:
        print(f"{program}: error: {printable(str(error))}", file=sys.stderr)


def counted(number: int, one: str, many: str = "") -> str:
    """`1 file`, `2 files`, `2 entries`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def print_published(outcome: Outcome) -> None:
    """Say what was done in config.d, and what an operator should know of its entries."""
    for row in outcome.files:
        print(f"{row.action}: {row.file} ({counted(row.entries, 'entry', 'entries')})")
    for path in outcome.pilot_files:
        print(f"pilot file: {path}")
    for path in outcome.dropped:
        print(f"dropped: {path}, which no entry has named for a day")
    for name in outcome.carried:
        print(
            f"kept disabled: {name} has left its site file; reconfigure, then `gwms-bosco entry remove {name} "
            "--reconfigured`"
        )
    for name in outcome.left_out:
        print(f"left out: {name} was removed; `gwms-bosco entry enable {name}` brings it back")
    for name, state in outcome.inactive.items():
        print(f"{state}: {name}; `gwms-bosco entry enable {name}` ends that")
    for name, place in outcome.shadowed.items():
        print(f"warning: {name} is replaced by {place}, which is read later; nothing said here reaches the factory")


@contextmanager
def byte_progress(title: str) -> Iterator[Advance]:
    """Show a progress bar on stderr if that is a terminal; give a function that moves it."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    # Imported here: scripts and unit tests never pay for it.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
