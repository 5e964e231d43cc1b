# SPDX-License-Identifier: Apache-2.0
"""Patterns of credential paths: which files lie under one, and whether two could name the same file.

A pattern is an absolute path. `*` and `?` stand for characters of one part and never for a slash. A pattern covers the
files it names and everything below a folder it names.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase

_WILD = frozenset("*?")


def _parts(path: str) -> list[str]:
    return path.strip("/").split("/")


def _covers(pattern: str, path: str) -> bool:
    wanted, parts = _parts(pattern), _parts(path)
    return len(parts) >= len(wanted) and all(fnmatchcase(part, want) for part, want in zip(parts, wanted))


def _resolved(pattern: str) -> str:
    """The pattern with links resolved in its leading folders, as far as no wild character stands in them."""
    parts = _parts(pattern)
    plain = next((i for i, part in enumerate(parts) if _WILD & set(part)), len(parts))
    return "/".join([os.path.realpath("/" + "/".join(parts[:plain])), *parts[plain:]])


def covered(path: str, patterns: Iterable[str]) -> bool:
    """Tell whether a file lies under one of the patterns, by the name it was called and by where it really is.

    By its name alone a link in one frontend's folder could lend it another frontend's file; by its real place alone
    the link would lend it to the other side.

    Args:
        path: as the caller gave it; a relative one, one with `.`, `..` or `//` in it, and a link are covered by
            nothing. Folders on the way may be links.
    """
    if not path.startswith("/") or os.path.normpath(path) != path or path.startswith("//"):
        return False
    if os.path.islink(path):  # noqa: PTH114 - text in, text out
        return False
    real = os.path.realpath(path)
    return any(_covers(pattern, path) and _covers(_resolved(pattern), real) for pattern in patterns)


def overlap(first: str, second: str) -> bool:
    """Tell whether some file could lie under both patterns."""
    return all(_meet(one, other) for one, other in zip(_parts(first), _parts(second)))


def _meet(one: str, other: str) -> bool:
    """Tell whether some name fits both: a walk over the pairs of positions that one name can reach together."""
    reachable, seen = [(0, 0)], {(0, 0)}
    while reachable:
        i, j = reachable.pop()
        if i == len(one) and j == len(other):
            return True
        for step in _steps(one[i : i + 1], other[j : j + 1], i, j):
            if step not in seen:
                seen.add(step)
                reachable.append(step)
    return False


def _steps(a: str, b: str, i: int, j: int) -> list[tuple[int, int]]:
    steps = []
    if a == "*":
        # It stands for nothing more, or takes one more character of the other side.
        steps += [(i + 1, j)] + ([(i, j + 1)] if b else [])
    if b == "*":
        steps += [(i, j + 1)] + ([(i + 1, j)] if a else [])
    if a and b and "*" not in (a, b) and (a == b or "?" in (a, b)):
        steps.append((i + 1, j + 1))
    return steps
