# SPDX-License-Identifier: Apache-2.0
"""Say in words what differs between two meanings of entries."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from glideinwms_bosco.entry.meaning import Meaning

# How the elements of a list are called in words; the path is the one of `meaning`.
_ITEMS = {
    "attrs": "attribute",
    "config/submit/submit_attrs": "submit attribute",
    "config/max_jobs/per_frontends": "limits of frontend",
    "allow_frontends": "allowed frontend",
    "files": "file",
    "infosys_refs": "infosys reference",
    "monitorgroups": "monitor group",
}
_ITEM = re.compile(r"(?P<list>.*)/\[(?P<name>[^\]]*)\]/(?P<rest>.*)")


@dataclass(frozen=True)
class EntryChange:
    """What a render would do to one entry: `action` is added, removed or changed; `details` are sentences."""

    name: str
    action: str
    details: tuple[str, ...] = ()


def compare_entries(before: Mapping[str, Meaning], after: Mapping[str, Meaning]) -> tuple[EntryChange, ...]:
    """Compare entries by name; those that mean the same are left out."""
    changes = []
    for name in sorted({*before, *after}):
        if name not in before:
            changes.append(EntryChange(name, "added", _headline(after[name])))
        elif name not in after:
            # Source: glideinWMS 3.10 reconfig_glidein refuses entries that vanish, for the whole factory.
            changes.append(EntryChange(name, "removed", ("reconfig stops when an enabled entry vanishes",)))
        elif before[name] != after[name]:
            changes.append(EntryChange(name, "changed", tuple(describe(before[name], after[name]))))
    return tuple(changes)


def _headline(meaning: Meaning) -> tuple[str, ...]:
    shown = ("gatekeeper", "gridtype", "enabled")
    return tuple(f"{name}: {meaning[f'@{name}']}" for name in shown if f"@{name}" in meaning)


def describe(before: Meaning, after: Meaning) -> Iterator[str]:
    """One sentence per changed value; an item of a list that comes or goes is one sentence as a whole."""
    items: dict[tuple[str, str], list[str]] = {}
    for path in sorted({*before, *after}):
        found = _ITEM.fullmatch(path)
        if found:
            items.setdefault((found["list"], found["name"]), []).append(path)
        elif before.get(path) != after.get(path):
            yield f"{_plain(path)}: {_change(before.get(path), after.get(path))}"
    for (where, name), paths in items.items():
        yield from _item(f"{_ITEMS.get(where, where)} {name}", paths, before, after)


def _item(label: str, paths: list[str], before: Meaning, after: Meaning) -> Iterator[str]:
    value = next((path for path in paths if path.endswith("/@value")), None)
    if not any(path in before for path in paths):
        yield f"{label}: added" + (f" with value {after[value]!r}" if value else "")
    elif not any(path in after for path in paths):
        yield f"{label}: removed" + (f", it was {before[value]!r}" if value else "")
    else:
        for path in paths:
            if before.get(path) != after.get(path):
                yield f"{label}: {path.rpartition('/@')[2]} {_change(before.get(path), after.get(path))}"


def _plain(path: str) -> str:
    """`config/max_jobs/per_entry/@glideins` -> `per_entry glideins`."""
    element, _, attribute = path.rpartition("@")
    return f"{element.strip('/').rpartition('/')[2]} {attribute}".strip()


def _change(before: object, after: object) -> str:
    if before is None:
        return f"set to {after!r}"
    if after is None:
        return f"no longer set, it was {before!r}"
    return f"{before!r} -> {after!r}"
