# SPDX-License-Identifier: Apache-2.0
"""Read a YAML file into plain values and remember the line of each of them.

Scalars follow YAML 1.2's core schema, not PyYAML's 1.1: there `no` is False, `22:30` is the number 1350 and
`walltime: 48:00:00` is 172800. Only `true`, `false`, `null`, decimal integers and floats are special here.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from glideinwms_bosco.errors import Problem, SiteFileError
from glideinwms_bosco.json_file import PathKey, dotted, unreadable_hint

MAX_FILE_BYTES = 1 << 20
"""Largest site file read, bytes. The largest real configuration is below 0.1 MiB a site."""
MAX_NODES = 100_000
"""Most values in one file, aliases expanded: stops a `billion laughs` before it grows."""
MAX_DEPTH = 64
"""Deepest nesting; site files need six levels."""


class _Resolver(yaml.SafeLoader):
    """SafeLoader with YAML 1.2 core scalars."""


# Source: YAML 1.2.2, section 10.3.2 (core schema), without octal and hexadecimal, which no field needs.
_Resolver.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("tag:yaml.org,2002:null", r"^(?:~|null|Null|NULL|)$", "~nN\0"),
    ("tag:yaml.org,2002:int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"^[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$",
        "-+.0123456789",
    ),
):
    _Resolver.add_implicit_resolver(_tag, re.compile(_pattern), ["" if c == "\0" else c for c in _first])

_CORE_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map"))
# Line breaks and control characters, and what XML 1.0 has no way to write.
_UNUSABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")


class YamlSource:
    """A parsed file: `data` (dict, list, str, int, float, bool, None) and the line of each value.

    Args:
        path: file to read; messages name it as given.
        may_have_lines: tells of a value's place whether line feeds and tabs may stand in it.

    Raises:
        SiteFileError: unreadable, too large, not UTF-8, not YAML, duplicate keys, control characters in a value.
    """

    def __init__(self, path: Path, may_have_lines: Callable[[PathKey], bool] = lambda _path: False) -> None:
        self.file = str(path)
        self._may_have_lines = may_have_lines
        self._lines: dict[PathKey, int] = {}
        self._nodes = 0
        self.problems: list[Problem] = []
        text = self._read(path)
        try:
            loader = _Resolver(text)
            root = loader.get_single_node()
            self.data: Any = {} if root is None else self._value(loader, root, ())
        except yaml.MarkedYAMLError as err:
            mark = err.problem_mark or err.context_mark
            what = " ".join(part for part in (err.context, err.problem) if part)
            hint = "indent with spaces" if "'\\t'" in what else "look at this line and at the one above it"
            raise self._fail(mark.line + 1 if mark else 0, f"not valid YAML: {what}", hint) from None
        except RecursionError:
            raise self._fail(0, "too deeply nested", "one file, one site") from None
        except (yaml.YAMLError, ValueError) as err:
            raise self._fail(0, f"not valid YAML: {' '.join(str(err).split())}") from None
        if self.problems:
            raise SiteFileError(tuple(self.problems))

    def line(self, path: PathKey) -> int:
        """Line of the value at `path`, or of the nearest parent that stands in the file."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def lines(self) -> tuple[tuple[PathKey, int], ...]:
        """Every path of the file with its line."""
        return tuple(self._lines.items())

    def _fail(self, line: int, message: str, hint: str = "") -> SiteFileError:
        return SiteFileError((Problem(self.file, line, "", message, hint),))

    def _read(self, path: Path) -> str:
        try:
            # Without O_NONBLOCK opening a pipe waits for its writer.
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
                if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                    raise self._fail(0, "is not a regular file", "name a YAML file")
                raw = stream.read(MAX_FILE_BYTES + 1)
        except OSError as err:
            raise self._fail(0, f"cannot be read: {err.strerror}", unreadable_hint(err)) from None
        if len(raw) > MAX_FILE_BYTES:
            raise self._fail(0, f"larger than {MAX_FILE_BYTES} bytes", "one file describes one site")
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as err:
            line = raw.count(b"\n", 0, err.start) + 1
            raise self._fail(line, "not UTF-8 text", "save the file as UTF-8") from None

    def _value(self, loader: yaml.SafeLoader, node: yaml.Node, path: PathKey) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise self._fail(node.start_mark.line + 1, "too many values or too deeply nested", "one file, one site")
        self._lines.setdefault(path, node.start_mark.line + 1)
        if node.tag not in _CORE_TAGS:
            self._report(node, path, f"the tag {node.tag!r} is not allowed", "write a plain value")
            return None
        if isinstance(node, yaml.SequenceNode):
            return [self._value(loader, child, (*path, i)) for i, child in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, path)
        value = loader.construct_object(node)
        if isinstance(value, str) and any(
            found[0] not in "\n\t" or not self._may_have_lines(path) for found in _UNUSABLE.finditer(value)
        ):
            self._report(node, path, "has a line break or control character", "write it on one line")
        return value

    def _mapping(self, loader: yaml.SafeLoader, node: yaml.MappingNode, path: PathKey) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._report(key_node, path, "a key must be a word", "see docs/site-file.md")
                continue
            key = str(key_node.value)
            if _UNUSABLE.search(key):
                self._report(key_node, path, f"the key {key!r} has a line break or control character", "rename it")
                continue
            here = (*path, key)
            if key in result:
                first = self._lines[here]
                self._report(key_node, here, f"stands twice (first on line {first})", "remove one of them")
                continue
            self._lines[here] = key_node.start_mark.line + 1
            result[key] = self._value(loader, value_node, here)
        return result

    def _report(self, node: yaml.Node, path: PathKey, message: str, hint: str) -> None:
        self.problems.append(Problem(self.file, node.start_mark.line + 1, dotted(path), message, hint))
