# SPDX-License-Identifier: Apache-2.0
"""Steps of a how-to page, as the comments before its blocks mark them, so that a test can follow it word for word.

What the comments may say stands in docs/contributing.md, "Pages".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
_MARK = re.compile(r"<!-- (?P<kind>run|file|systemd|dnf): (?P<host>\S+) (?P<what>\S+)(?:; (?P<more>.*?))? -->")
_GIVES = re.compile(r"(?P<name>[A-Z][A-Z0-9_]+) = (?P<pattern>.+)")
_ANSWERS = "answers "
_CREDENTIAL = "credential "
_WAITS = "waits"
_REFUSED = "refused"
PLACEHOLDER = re.compile(r"\b[A-Z]+_[A-Z_]+\b|\bPASSPHRASE\b")


@dataclass(frozen=True)
class Step:
    """One marked block.

    Attributes:
        page: name of the page's file.
        line: 1-based, of the mark.
        kind: run, file, systemd or dnf.
        host: factory or frontend.
        what: the user who runs it, or the path of the file.
        text: the block, with placeholders.
        name: placeholder whose value the output has; empty when none.
        pattern: finds it, as the first group.
        answers: placeholders of the lines for standard input.
        credential: name and placeholder of a systemd credential; empty when none.
        waits: it is tried until it succeeds.
        refused: its exit status is 1.
    """

    page: str
    line: int
    kind: str
    host: str
    what: str
    text: str
    name: str = ""
    pattern: str = ""
    answers: tuple[str, ...] = ()
    credential: tuple[str, ...] = ()
    waits: bool = False
    refused: bool = False

    def filled(self, values: Mapping[str, str]) -> str:
        """The block with values in the place of placeholders and of the page's example hosts and users.

        Args:
            values: word -> what takes its place; longer words first.
        """
        text = self.text
        for word in sorted(values, key=len, reverse=True):
            text = text.replace(word, values[word])
        return text

    def found_in(self, output: str) -> str:
        """The value that the step's output has for `name`.

        Raises:
            AssertionError: the output does not look as the page says.
        """
        found = re.search(self.pattern, output, re.MULTILINE)
        if found is None:
            raise AssertionError(f"{self.page}:{self.line}: {self.pattern!r} is not in the output:\n{output}")
        return found[1]


def steps_of(page: str, folder: Path = DOCS) -> tuple[Step, ...]:
    """All marked blocks of a page, in order.

    Raises:
        ValueError: a mark that is not understood, or has no block behind it.
    """
    lines = (folder / page).read_text(encoding="utf-8").splitlines()
    steps = []
    for number, line in enumerate(lines, start=1):
        if re.match(r"\s*<!-- (run|file|systemd|dnf)\b", line):
            mark = _MARK.fullmatch(line.strip())
            if mark is None or number >= len(lines) or not lines[number].startswith("```"):
                raise ValueError(f"{page}:{number}: not a mark with a block behind it: {line}")
            end = lines.index("```", number + 1)
            text = "\n".join(lines[number + 1 : end]) + "\n"
            steps.append(_step(page, number, mark, text))
    return tuple(steps)


def _step(page: str, line: int, mark: re.Match[str], text: str) -> Step:
    step = Step(page, line, mark["kind"], mark["host"], mark["what"], text)
    more = mark["more"] or ""
    if gives := _GIVES.fullmatch(more):
        return replace(step, name=gives["name"], pattern=gives["pattern"])
    if more.startswith(_ANSWERS):
        return replace(step, answers=tuple(more[len(_ANSWERS) :].split()))
    if more.startswith(_CREDENTIAL):
        return replace(step, credential=tuple(more[len(_CREDENTIAL) :].split()))
    if more == _WAITS:
        return replace(step, waits=True)
    if more == _REFUSED:
        return replace(step, refused=True)
    if more:
        raise ValueError(f"{page}:{line}: not understood: {more}")
    return step
