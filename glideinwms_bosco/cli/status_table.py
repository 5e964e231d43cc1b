# SPDX-License-Identifier: Apache-2.0
"""The status of accounts as a table, and as lines for one account alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Optional

from glideinwms_bosco.cli import output
from glideinwms_bosco.remote.history import Event
from glideinwms_bosco.remote.status import SHOWN_VERBS, AccountStatus

_DIGEST_SHOWN = 12
_COLUMNS = (
    *("ACCOUNT", "REACHABLE", "BUNDLE", "DRIFT"),
    *(verb.upper() for verb in SHOWN_VERBS),
    *("RUNNING", "IDLE", "HELD", "CREDENTIAL"),
)
# Column -> cells that say that something is wrong; what was not asked, or is not known, does not.
_BAD = {"REACHABLE": ("no",), "BUNDLE": ("none", "not ours"), "DRIFT": ("yes",)}
_NONE_HELD = ("0", "?", "-")
# unit, its seconds; the first that is not longer than the age
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))

Row = tuple[str, Optional[AccountStatus], str]
"""Label, status, and what went wrong when there is none."""


def print_status(rows: Sequence[Row]) -> None:
    """Print the table, then a line for each thing that is wrong."""
    table = [(label, *(["-"] * (len(_COLUMNS) - 1) if status is None else _cells(status))) for label, status, _ in rows]
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *table)]
    if sys.stdout.isatty():
        _print_rich(table, sum(widths) + 2 * len(widths))
    else:
        for cells in (_COLUMNS, *table):
            print("  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths)).rstrip())
    for label, status, sentence in rows:
        for line in [f"FAILED: {sentence}"] if status is None else _wrong(status):
            print(output.printable(f"{label}: {line}"))
        for line in () if status is None else _by_hand(status):
            print(output.printable(f"{label}: {line}"))
    problems = dict.fromkeys(status.pilots_problem for _, status, _ in rows if status and status.pilots_problem)
    for problem in problems:
        print(output.printable(f"no pilots are shown: {problem}"))


def _print_rich(table: Sequence[Sequence[str]], width: int) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(*_COLUMNS, box=None, pad_edge=False)
    for row in table:
        shown.add_row(*(Text(cell, style=_style(name, cell)) for name, cell in zip(_COLUMNS, row)))
    # A narrow terminal wraps the line; rich would cut the names of accounts short. Without a height, EL9's rich takes
    # a terminal without TERM for 80 columns.
    Console(highlight=False, width=width, height=len(table) + 1).print(shown)


def _style(column: str, cell: str) -> str:
    bad = cell in _BAD.get(column, ()) or cell.startswith("FAILED ") or (column == "HELD" and cell not in _NONE_HELD)
    return "bold red" if bad else ""


def describe(status: AccountStatus) -> tuple[str, ...]:
    """One account alone: each thing on a line of its own."""
    cells = _cells(status)
    lines = [f"{name.lower():<12} {cell}" for name, cell in zip(_COLUMNS[1:], cells)]
    for place, verb in enumerate(SHOWN_VERBS, start=3):
        event = status.last[verb]
        if event is not None:
            lines[place] += f": {event.headline}"
    if status.pilots_problem:
        lines.append(f"no pilots are shown: {status.pilots_problem}")
    return (*lines, *_by_hand(status), *_wrong(status))


def _cells(status: AccountStatus) -> tuple[str, ...]:
    pilots = status.pilots
    counts = ("?",) * 3 if pilots is None else (str(pilots.running), str(pilots.idle), str(pilots.held))
    drift = {None: "?", True: "yes", False: "no"}[status.drift]
    return (
        {None: "not asked", True: "yes", False: "no"}[status.reachable],
        _bundle(status),
        drift,
        *(_event(status.last[verb]) for verb in SHOWN_VERBS),
        *counts,
        status.credential,
    )


def _bundle(status: AccountStatus) -> str:
    if status.installed is None:
        return "?"
    if status.installed.digest is not None:
        return status.installed.digest[:_DIGEST_SHOWN]
    return "not ours" if status.installed.kind == "foreign" else "none"


def _event(event: Optional[Event]) -> str:
    return "-" if event is None else f"{'ok' if event.ok else 'FAILED'} {age(time.time() - event.at)}"


def age(seconds: float) -> str:
    """`3 h`: how long something is ago; a clock that was set back gives `0 s`."""
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}" if unit != "s" else f"{seconds:.0f} s"
    return "0 s"


def _by_hand(status: AccountStatus) -> list[str]:
    """Pilots that no schedd knows."""
    found = status.site_pilots
    if found is None or not found.hand:
        return []
    nodes = ", ".join(found.hand_nodes) + (", ..." if found.more_nodes else "")
    return [f"{output.counted(found.hand, 'pilot')} started by hand on {nodes}"]


def _wrong(status: AccountStatus) -> list[str]:
    lines = []
    if status.problem:
        lines.append(f"not reachable: {status.problem}")
    if status.wanted_problem:
        lines.append(f"drift is not known: {status.wanted_problem}")
    if status.installed is not None and status.installed.kind == "foreign":
        lines.append("glite is not a link of ours (a hand-made installation?)")
    for row in status.pilots.hold_reasons if status.pilots else ():
        lines.append(f"{output.counted(row.count, 'pilot')} held, last {age(time.time() - row.at)} ago: {row.reason}")
    return lines
