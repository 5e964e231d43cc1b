# SPDX-License-Identifier: Apache-2.0
"""Imports between the rooms go one way, as the table of docs/architecture.md says."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "glideinwms_bosco"

# room -> rooms it may import; OPEN_TO_ALL are too.
MAY_IMPORT = {
    "site": set(),
    "batch": set(),
    "entry": {"site", "batch", "pilot"},
    "bundle": {"site", "batch", "egress"},
    "siteconf": {"site"},
    "pilot": {"site", "siteconf", "webproxy", "egress"},
    "webproxy": {"site"},
    "egress": {"site"},
    "remote": {"site", "batch", "bundle", "entry", "key_scan"},
    "sshwire": set(),
    "link": {"sshwire"},
    "key_scan": set(),
    "broker": {"link", "sshwire", "key_scan"},
    "relay": {"link", "sshwire"},
    "cli": {
        *("site", "batch", "entry", "bundle", "siteconf", "pilot", "webproxy", "egress", "remote"),
        *("broker", "relay", "link", "sshwire"),
    },
}
OPEN_TO_ALL = {"errors", "atomic", "json_file", "schema_words", "state_folder"}


def imported_rooms(tree: ast.AST, package: str = "glideinwms_bosco") -> Iterator[str]:
    """Rooms of ours that a module names in any import, also inside functions."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [
                f"{node.module}.{alias.name}" if node.module == package else str(node.module) for alias in node.names
            ]
        for name in names:
            parts = name.split(".")
            if parts[0] == package and len(parts) > 1:
                yield parts[1]


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_imports_only_what_its_room_may(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if len(relative.parts) == 1:
        allowed, room = set(), ""
    else:
        room = relative.parts[0]
        assert room in MAY_IMPORT, f"room {room} is not in the table"
        allowed = MAY_IMPORT[room] | {room}
    wrong = {name for name in imported_rooms(tree) if name not in allowed | OPEN_TO_ALL | {"__version__"}}
    assert not wrong, f"{relative} may not import {sorted(wrong)}"


def test_table_itself_has_no_cycle() -> None:
    done: set[str] = set()
    while len(done) < len(MAY_IMPORT):
        free = {room for room, needs in MAY_IMPORT.items() if room not in done and needs <= done}
        assert free, f"cycle among {sorted(set(MAY_IMPORT) - done)}"
        done |= free


def test_checker_sees_an_import_in_a_function() -> None:
    tree = ast.parse("def f():\n    from glideinwms_bosco.cli import main\n")
    assert list(imported_rooms(tree)) == ["cli"]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_names_its_licence_and_idea(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
    assert ast.get_docstring(ast.parse(text)), "a module says its one idea"
