# SPDX-License-Identifier: Apache-2.0
"""How the work on many accounts is shown: a live table on a terminal, plain lines elsewhere, JSON lines on request."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.fleet import Result, View
from glideinwms_bosco.errors import BoscoError

_REFRESH_PER_S = 4
_WORD = {True: "ok", False: "FAILED"}


def fleet_view(size: int, title: str, *, as_json: bool, results: bool) -> View:
    """The view that fits where standard output goes.

    Args:
        size: how many results there will be.
        title: what is done with bytes: "sending".
        as_json: JSON lines.
        results: whether each is shown for people as it ends; otherwise the caller shows all at the end.
    """
    if as_json:
        return JsonLines()
    return LiveTable(size, title, results) if sys.stdout.isatty() else PlainLines(results)


def summary(results: Sequence[Result], verb: str, seconds: float) -> dict[str, Any]:
    """The counts, as the last JSON line has them."""
    failed = [result.label for result in results if not result.ok]
    return {
        "type": "summary",
        "verb": verb,
        "total": len(results),
        "ok": len(results) - len(failed),
        "failed": len(failed),
        "failed_targets": failed,
        "not_begun": sum(not result.begun for result in results),
        "seconds": round(seconds, 3),
    }


def error_report(error: BoscoError) -> dict[str, Any]:
    """An error for `--json`."""
    return {
        "kind": type(error).__name__,
        "message": str(error.problems[0]) if error.problems else error.message,
        "hint": error.hint,
        "problems": [vars(problem) for problem in error.problems],
    }


def result_report(result: Result) -> dict[str, Any]:
    """One account for `--json`."""
    return {
        "type": "account",
        "site": result.site,
        "account": result.account,
        "ok": result.ok,
        "seconds": round(result.seconds, 3),
        "report": None if result.outcome is None else result.outcome.report,
        "error": None if result.error is None else error_report(result.error),
    }


class PlainLines:
    """One line per account as it ends."""

    def __init__(self, results: bool = True) -> None:
        self._results = results

    def begin(self, label: str) -> None:
        """Nothing: a log keeps results."""

    def tell(self, label: str, sentence: str) -> None:
        """A wait is worth a line: the log would stand still."""
        print(output.printable(f"wait: {label}: {sentence}"), flush=True)

    def advance(self, label: str, done: int, total: int) -> None:
        """Nothing."""

    def ended(self, result: Result) -> None:
        """Print the result."""
        if self._results:
            print(output.printable(f"{_WORD[result.ok]}: {result.label}: {result.sentence}"), flush=True)

    def close(self) -> None:
        """Nothing is open."""


class JsonLines(PlainLines):
    """One JSON object per line as each account ends."""

    def tell(self, label: str, sentence: str) -> None:
        """On standard error: standard output holds results only."""
        with contextlib.suppress(OSError):
            print(output.printable(f"wait: {label}: {sentence}"), file=sys.stderr, flush=True)

    def ended(self, result: Result) -> None:
        """Print the result."""
        print_line(result_report(result))


def print_line(value: Any) -> None:
    """Print a JSON object on a line of its own."""
    print(json.dumps(value, sort_keys=True, default=str), flush=True)


@dataclass
class _Row:
    began: float = field(default_factory=time.monotonic)
    text: str = "connecting"


class LiveTable:
    """What has ended scrolls away as lines; below them a table of what runs, which is never longer than `--jobs`."""

    def __init__(self, size: int, title: str, results: bool) -> None:
        # Imported here: scripts and unit tests never pay for it.
        from rich.console import Console
        from rich.live import Live

        self._size, self._title, self._results = size, title, results
        self._rows: dict[str, _Row] = {}
        self._ok = self._failed = 0
        self._lock = threading.Lock()
        self._console = Console(highlight=False)
        self._live = Live(
            self,  # EL9's rich 9.9 takes no function in its place
            console=self._console,
            refresh_per_second=_REFRESH_PER_S,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def __rich__(self) -> Any:
        """The table as it is now; asked for at each refresh."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        with self._lock:
            for label, row in self._rows.items():
                table.add_row(Text(label), f"{time.monotonic() - row.began:.0f} s", Text(row.text))
            ended = self._ok + self._failed
            table.caption = f"{ended} of {self._size} done, {self._failed} failed"
            table.caption_justify = "left"
        return table

    def begin(self, label: str) -> None:
        """A row more."""
        with self._lock:
            self._rows[label] = _Row()

    def tell(self, label: str, sentence: str) -> None:
        """Show it in the account's row."""
        self._say(label, output.printable(sentence))

    def advance(self, label: str, done: int, total: int) -> None:
        """Show the share in the account's row."""
        self._say(label, f"{self._title} {100 * done // max(total, 1)} %")

    def _say(self, label: str, text: str) -> None:
        with self._lock:
            if label in self._rows:
                self._rows[label].text = text

    def ended(self, result: Result) -> None:
        """Turn the row into a line above the table."""
        from rich.text import Text

        with self._lock:
            self._rows.pop(result.label, None)
            self._ok += result.ok
            self._failed += not result.ok
        if not self._results:
            return
        style = "green" if result.ok else "bold red"
        line = Text.assemble((_WORD[result.ok], style), output.printable(f": {result.label}: {result.sentence}"))
        self._console.print(line, soft_wrap=True)

    def close(self) -> None:
        """Take the table away."""
        self._live.stop()
