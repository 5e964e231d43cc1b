# SPDX-License-Identifier: Apache-2.0
"""Read a regular expression as libstdc++'s ECMAScript grammar does, and tell by its form whether it can run for ever.

Tried with GCC 12: what it refuses here, `std::regex` refuses, and the other way round.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_NESTING = 20
"""Groups in groups."""
MAX_UNBOUNDED = 6
"""Of `*`, `+`, `{n,}` in one expression: the time grows with the text's length to the power of their number."""
MAX_WAYS = 4096
"""To go through optional parts and branches that begin alike: the time is multiplied by each."""
_MAX_STEPS = 10_000
"""Of the judgement itself: pairs of characters of the expression that can follow each other."""
_LOOP = 10
"""Repeats from this number on count as endless when they stand in each other."""
_MAX_REPEAT = 1000
"""libstdc++ unrolls counted repeats and refuses more than 100,000 states."""

_QUANTIFIER = re.compile(r"[*+?]|\{([0-9]+)(?:(,)([0-9]*))?\}")
_POSIX_CLASS = re.compile(r"\[([:.=])")
_POSIX_NAMES = frozenset(
    (
        *("alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper"),
        *("xdigit", "d", "w", "s"),
    )
)
_ALL = (1 << 256) - 1
_DIGITS = sum(1 << ord(character) for character in "0123456789")
_WORD = _DIGITS | sum(1 << ord(character) for character in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_SPACE = sum(1 << ord(character) for character in " \t\n\r\f\v")
_CLASSES = {"d": _DIGITS, "w": _WORD, "s": _SPACE, "D": _ALL ^ _DIGITS, "W": _ALL ^ _WORD, "S": _ALL ^ _SPACE}
_PYTHON_ONLY = {"A": "the start", "Z": "the end"}


class Refused(Exception):
    """CMSSW's library does not take the expression."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Endless(Exception):
    """The expression can run for ever, or nothing here can tell that it does not; no more of it is looked at."""


@dataclass
class _Part:
    """A piece of an expression as positions: which can come first and last, and whether it may be empty.

    Attributes:
        begin: its first position; all later ones up to now belong to it.
        varies: it matches texts of different lengths, or in different ways.
    """

    begin: int
    first: set[int]
    last: set[int]
    nullable: bool = False
    varies: bool = False


class Scan:
    """One pass over an expression.

    Attributes:
        differs: what WMCore would read differently; the first thing.
        groups: for each group whether it may be empty.

    The positions are those of Glushkov's automaton: if no two that can follow the same one share a character, there
    is never anything to try again.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.depth = 0
        self.differs = ""
        self.groups: list[bool] = []
        self._masks: list[int] = []
        self._follow: list[set[int]] = []
        self._ways = 1
        self._unbounded = 0
        self._steps = 0

    def run(self) -> None:
        """Read all of it.

        Raises:
            Refused: libstdc++ does not take it.
            Endless: it must not be run.
        """
        self._branches()
        if self.at < len(self.pattern):
            raise Refused(f"an unopened ) at character {self.at + 1}")

    def _multiply(self, ways: int) -> None:
        self._ways *= ways
        if self._ways > MAX_WAYS:
            raise Endless(f"there are more than {MAX_WAYS} ways through it")

    def _differ(self, why: str) -> None:
        self.differs = self.differs or why

    def _peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def _branches(self) -> _Part:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise Endless(f"it has groups more than {MAX_NESTING} deep, which nothing here reads")
        groups = len(self.groups)
        whole, alike = self._sequence(), 1
        while self._peek() == "|":
            self.at += 1
            branch = self._sequence()
            self._may_be_empty(groups)
            if self._characters(whole.first) & self._characters(branch.first) or (whole.nullable and branch.nullable):
                alike += 1
            whole = _Part(
                whole.begin,
                whole.first | branch.first,
                whole.last | branch.last,
                whole.nullable or branch.nullable,
                True,
            )
        self._multiply(alike)
        self.depth -= 1
        return whole

    def _sequence(self) -> _Part:
        whole = _Part(len(self._masks), set(), set(), nullable=True)
        while self._peek() not in ("", "|", ")"):
            part = self._repeated()
            self._link(whole.last, part.first)
            whole = _Part(
                whole.begin,
                whole.first | part.first if whole.nullable else whole.first,
                whole.last | part.last if part.nullable else part.last,
                whole.nullable and part.nullable,
                whole.varies or part.varies,
            )
        return whole

    def _repeated(self) -> _Part:
        start, groups = self.at, len(self.groups)
        part, quantifiable = self._atom()
        count = 0
        while True:
            match = _QUANTIFIER.match(self.pattern, self.at)
            if match is None:
                if self._peek() == "{":
                    raise Refused(f"a {{ at character {self.at + 1} that is no repeat; write \\{{")
                return part
            if not quantifiable:
                raise Refused(f"a repeat of nothing at character {self.at + 1}")
            low, high = _bounds(match)
            self.at = match.end()
            count += 1
            if count > 1:
                self._differ(f"a repeat of a repeat ({self.pattern[start : self.at]!r})")
            if self._peek() == "?":
                self.at += 1  # not greedy: the same texts match
            part = self._repeat(part, low, high)
            if low == 0:
                self._may_be_empty(groups)

    def _may_be_empty(self, first: int) -> None:
        """Note that groups from a number on may take part in no match."""
        self.groups[first:] = [True] * (len(self.groups) - first)

    def _repeat(self, part: _Part, low: int, high: int) -> _Part:
        """Apply a repeat; `high` -1: without end."""
        endless = high < 0
        if endless:
            self._unbounded += 1
            if self._unbounded > MAX_UNBOUNDED:
                raise Endless(f"it has more than {MAX_UNBOUNDED} open repeats")
        elif high != low:
            self._multiply(2 ** min(high - low, _LOOP) if part.varies or part.nullable else 2)
        if endless or high > 1:
            twice = any(self._follow[position] & part.first for position in part.last)
            self._link(part.last, part.first)
            if endless or high >= _LOOP:
                unclear = (part.varies or part.nullable) and not self._clear(part)
                if twice or unclear or (part.nullable and not endless):
                    raise Endless("repeats stand in each other, so that one text can be divided in very many ways")
        return _Part(part.begin, part.first, part.last, part.nullable or low == 0, part.varies or low != high)

    def _clear(self, part: _Part) -> bool:
        """Whether each character of a text leads to one position only."""
        return not self._overlap(part.first) and not any(
            self._overlap(self._follow[position]) for position in range(part.begin, len(self._masks))
        )

    def _overlap(self, positions: set[int]) -> bool:
        seen = 0
        self._count(len(positions))
        for position in positions:
            if seen & self._masks[position]:
                return True
            seen |= self._masks[position]
        return False

    def _characters(self, positions: set[int]) -> int:
        self._count(len(positions))
        characters = 0
        for position in positions:
            characters |= self._masks[position]
        return characters

    def _link(self, before: set[int], after: set[int]) -> None:
        self._count(len(before) * len(after))
        if self._steps <= _MAX_STEPS:
            for position in before:
                self._follow[position] |= after

    def _count(self, steps: int) -> None:
        self._steps += steps
        if self._steps > _MAX_STEPS:
            raise Endless("it is too complicated to tell that it ends")

    def _position(self, mask: int) -> _Part:
        self._masks.append(mask)
        self._follow.append(set())
        here = len(self._masks) - 1
        return _Part(here, {here}, {here})

    def _nothing(self) -> _Part:
        return _Part(len(self._masks), set(), set(), nullable=True)

    def _atom(self) -> tuple[_Part, bool]:
        """One thing, and whether a repeat may stand behind it."""
        character = self._peek()
        if character == "(":
            return self._group()
        if character == "[":
            return self._position(self._set()), True
        if character == "\\":
            return self._escape()
        if character in "*+?":
            raise Refused(f"a repeat of nothing at character {self.at + 1}")
        if character == "{":
            raise Refused(f"a {{ at character {self.at + 1} that is no repeat; write \\{{")
        self.at += 1
        if character in "^$":
            return self._nothing(), False
        return self._position(_ALL if character == "." else _bit(character)), True

    def _group(self) -> tuple[_Part, bool]:
        opened = self.at
        self.at += 1
        kind = ""
        if self._peek() == "?":
            kind = self.pattern[self.at : self.at + 2]
            if kind not in ("?:", "?=", "?!"):
                raise Refused(f"(?{kind[1:]} at character {opened + 1}, which ECMAScript does not have")
            self.at += 2
        number = len(self.groups)
        if not kind:
            self.groups.append(False)
        part = self._branches()
        if self._peek() != ")":
            raise Refused(f"an unclosed ( at character {opened + 1}")
        self.at += 1
        if not kind:
            self.groups[number] = part.nullable
        if kind in ("?=", "?!"):
            return self._nothing(), False
        return part, True

    def _escape(self) -> tuple[_Part, bool]:
        character = self.pattern[self.at + 1 : self.at + 2]
        if not character:
            raise Refused("a \\ at the end")
        self.at += 2
        if character in "bB":
            return self._nothing(), False
        if character in "123456789":
            if int(character) > len(self.groups):
                raise Refused(f"\\{character}, and there is no such group")
            raise Endless("it refers back to a group, which makes all else in it dearer")
            return self._nothing(), True
        if character == "c" and not re.match("[A-Za-z]", self._peek()):
            raise Refused("\\c without a letter")
        if character in _PYTHON_ONLY:
            self._differ(f"\\{character} is {_PYTHON_ONLY[character]} for WMCore, the letter {character} for CMSSW")
        return self._position(_CLASSES.get(character, _bit(character))), True

    def _set(self) -> int:
        """Take a [set]; its characters."""
        opened = self.at
        self.at += 1
        inverted = self._peek() == "^"
        self.at += inverted
        mask, first = 0, True
        while True:
            character = self._peek()
            if not character:
                raise Refused(f"an unclosed [ at character {opened + 1}")
            if character == "]" and not first:
                self.at += 1
                return _ALL ^ mask if inverted else mask
            if character == "]":
                self._differ("a ] at the start of [ ], which for CMSSW ends it")
            if _POSIX_CLASS.match(self.pattern, self.at):
                self._posix_class()
                mask, first = _ALL, False
                continue
            low, is_class = self._set_item()
            first = False
            if self._peek() == "-" and self.pattern[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                high, high_is_class = self._set_item()
                if is_class or high_is_class or low > high:
                    raise Refused(f"a range in [ ] at character {self.at} that is none")
                mask |= (1 << min(high, 255) + 1) - (1 << min(low, 255))
                continue
            mask |= _CLASSES[chr(low)] if is_class else _bit(chr(low))

    def _posix_class(self) -> None:
        """Take a class such as [:alpha:]; what it holds plays no part, as any such expression is reported."""
        kind = self.pattern[self.at + 1]
        end = self.pattern.find(f"{kind}]", self.at + 2)
        name = self.pattern[self.at + 2 : end] if end >= 0 else ""
        if end < 0 or (kind == ":" and name not in _POSIX_NAMES) or (kind != ":" and len(name) != 1):
            raise Refused(f"a class in [ ] at character {self.at + 1} that is none")
        self._differ("a class like [:alpha:], which WMCore reads as its characters")
        self.at = end + 2

    def _set_item(self) -> tuple[int, bool]:
        """One character of a set, or a class such as \\d: its letter."""
        character = self._peek()
        self.at += 1
        if character != "\\":
            return ord(character), False
        escaped = self._peek()
        if not escaped:
            raise Refused("a \\ at the end")
        self.at += 1
        return ord(escaped), escaped in _CLASSES


def _bit(character: str) -> int:
    """All characters beyond Latin-1 share one bit."""
    return 1 << min(ord(character), 255)


def _bounds(match: re.Match[str]) -> tuple[int, int]:
    sign = match.group()[0]
    if sign != "{":
        return {"*": (0, -1), "+": (1, -1), "?": (0, 1)}[sign]
    if max(len(match.group(1)), len(match.group(3) or "")) > len(str(_MAX_REPEAT)):
        raise Refused(f"a repeat of more than {_MAX_REPEAT}")
    low = int(match.group(1))
    high = low if not match.group(2) else int(match.group(3)) if match.group(3) else -1
    if 0 <= high < low:
        raise Refused(f"{match.group()} is no range")
    if max(low, high) > _MAX_REPEAT:
        raise Refused(f"a repeat of more than {_MAX_REPEAT}")
    return low, high
