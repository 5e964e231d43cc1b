# SPDX-License-Identifier: Apache-2.0
"""Figures: a median of measured values, beside the median of the alternative. Nothing here judges them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Optional, TypeVar

Result = TypeVar("Result")

_WHAT_CHARS = 42
_FIGURE_CHARS = 21
_INSTEAD_CHARS = 36


class BenchError(Exception):
    """Something that was to be measured did not work; the text says what."""


@dataclass(frozen=True)
class Figure:
    """One row of the report.

    Attributes:
        what: what was measured.
        values: one value per round.
        unit: "s" or what is counted; "" for plain counts.
        instead: what a user would do instead; empty when there is nothing.
        instead_values: its values, from the same run.
        note: what else belongs to the figure, such as a target.
    """

    what: str
    values: Sequence[float]
    unit: str = "s"
    instead: str = ""
    instead_values: Sequence[float] = ()
    note: str = ""

    @property
    def value(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.values)

    @property
    def instead_value(self) -> Optional[float]:
        """Median of the alternative, None when there is none."""
        return statistics.median(self.instead_values) if self.instead_values else None

    @property
    def ratio(self) -> Optional[float]:
        """How many times the alternative; None without one, or when it is 0."""
        return self.value / self.instead_value if self.instead_value else None

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {
            "what": self.what,
            "unit": self.unit,
            "median": self.value,
            "values": list(self.values),
            "instead": self.instead or None,
            "instead_median": self.instead_value,
            "instead_values": list(self.instead_values),
            "ratio": self.ratio,
            "note": self.note,
        }


@dataclass(frozen=True)
class Section:
    """Figures that belong together; `title` says where and with what they were measured."""

    title: str
    figures: tuple[Figure, ...]


def timed(call: Callable[[], Result]) -> tuple[float, Result]:
    """Return how long a call takes (s), and its result."""
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


def shown(value: float, unit: str) -> str:
    """Write a value with its unit: seconds with three digits, counts whole."""
    number = f"{value:.3f}" if unit == "s" and value < 10 else f"{value:,.1f}" if unit == "s" else f"{value:,.0f}"
    return f"{number} {unit}".rstrip()


def _row(figure: Figure) -> str:
    text = shown(figure.value, figure.unit)
    if len(figure.values) > 1 and figure.unit == "s":
        text += f" ({min(figure.values):.2f}-{max(figure.values):.2f})"
    row = f"  {figure.what:<{_WHAT_CHARS}} {text:<{_FIGURE_CHARS}} "
    if figure.instead_value is not None:
        instead = f"{figure.instead}: {shown(figure.instead_value, figure.unit)}"
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f} x"
        row += f"{instead:<{_INSTEAD_CHARS}} {ratio:>7}  "
    return (row + figure.note).rstrip()


def table(section: Section) -> str:
    """Write a section as readable text: median (lowest-highest), the alternative, the ratio to it."""
    return "\n".join([section.title, *map(_row, section.figures), ""])
