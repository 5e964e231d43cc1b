# SPDX-License-Identifier: Apache-2.0
"""Write plain values as the YAML of a site file: same values, same text, and read back as what they were."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

# Text that no YAML version takes for anything but text, as long as it is none of the words below.
_BARE = re.compile(r"[A-Za-z_/][A-Za-z0-9_./+=-]*(?::[A-Za-z0-9_./+=-]+)*")
_WORDS = frozenset(("true", "false", "null", "yes", "no", "on", "off", "y", "n", "none"))
# Lists and blocks of plain values up to this many items, in these places, stand on one line.
_INLINE = frozenset(
    ("supported_vos", "batch", "install", "per_entry", "default_per_frontend", "release", "remove", "restrictions")
)
_INLINE |= {"submit", "login", "accounts"}


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes what any YAML version could misread, and never folds a line."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


class _Inline(dict):  # type: ignore[type-arg]
    """A block on one line."""


class _InlineList(list):  # type: ignore[type-arg]
    """A list on one line."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    bare = _BARE.fullmatch(value) and value.lower() not in _WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if bare else "'")


def _inline(dumper: yaml.SafeDumper, value: Mapping[str, Any]) -> yaml.MappingNode:
    return dumper.represent_mapping("tag:yaml.org,2002:map", value, flow_style=True)


def _inline_list(dumper: yaml.SafeDumper, value: Sequence[Any]) -> yaml.SequenceNode:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(_Inline, _inline)
_Dumper.add_representer(_InlineList, _inline_list)


def site_yaml(data: Mapping[str, Any], comments: Sequence[str]) -> str:
    """Write a site file.

    Args:
        data: plain values, in the order they shall stand.
        comments: lines for its top, without `#`.
    """
    top = "".join(f"# {_one_line(line)}".rstrip() + "\n" for line in comments)
    body: str = yaml.dump(
        _styled(data, ""), Dumper=_Dumper, sort_keys=False, default_flow_style=False, allow_unicode=True, width=1 << 20
    )
    return top + body


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _styled(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        inner = {key: _styled(item, f"attrs.{key}" if name == "attrs" else key) for key, item in value.items()}
        plain = not any(isinstance(item, dict) for item in inner.values())
        return _Inline(inner) if plain and (name in _INLINE or name.startswith("attrs.") or not inner) else inner
    if isinstance(value, (list, tuple)):
        items = [_styled(item, name) for item in value]
        return _InlineList(items) if name in _INLINE and not any(isinstance(item, dict) for item in items) else items
    return value
