# SPDX-License-Identifier: Apache-2.0
"""Changes of entries in words: entry by entry, value by value."""

from __future__ import annotations

from pathlib import Path

from lxml import etree

from glideinwms_bosco.entry.compare import EntryChange, compare_entries
from glideinwms_bosco.entry.meaning import Meaning, entry_meanings
from glideinwms_bosco.entry.render import render_site
from tests.unit.site_text import changed_site


def meanings(folder: Path, old: str = "", new: str = "") -> dict[str, Meaning]:
    return entry_meanings(etree.fromstring(render_site(changed_site(folder, old, new))))


def changes(folder: Path, old: str, new: str) -> tuple[EntryChange, ...]:
    return compare_entries(meanings(folder), meanings(folder, old, new))


def test_equal_entries_are_left_out(tmp_path: Path) -> None:
    assert compare_entries(meanings(tmp_path), meanings(tmp_path)) == ()


def test_changed_values_are_told_one_by_one(tmp_path: Path) -> None:
    (change,) = changes(tmp_path, "cpus: 8\n", "cpus: 16\n    limits: {per_entry: {glideins: 5}}\n")
    assert change.action == "changed"
    assert change.details == (
        "per_entry glideins: set to '5'",
        "attribute GLIDEIN_CPUS: value '8' -> '16'",
        "submit attribute +NodeNumber: value '8' -> '16'",
        "submit attribute +SMPGranularity: value '8' -> '16'",
    )


def test_list_items_come_and_go_as_a_whole(tmp_path: Path) -> None:
    (change,) = changes(tmp_path, "memory_mb: 16000\n", "attrs: {USE_CCB: true}\n")
    assert "attribute USE_CCB: added with value 'True'" in change.details
    assert "attribute GLIDEIN_MaxMemMBs: removed, it was '16000'" in change.details
    assert "submit attribute request_memory: removed, it was '16000'" in change.details


def test_new_and_vanished_entries(tmp_path: Path) -> None:
    added, removed = changes(tmp_path, "name: Test_Entry", "name: Another")
    assert (added.name, added.action) == ("Another", "added")
    assert "gatekeeper: pilot@login.example.org" in added.details
    assert (removed.name, removed.action) == ("Test_Entry", "removed")
    assert "reconfig stops" in removed.details[0]
