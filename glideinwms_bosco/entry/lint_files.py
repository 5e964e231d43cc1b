# SPDX-License-Identifier: Apache-2.0
"""Rules about `<file>`. Source: glideinWMS 3.10 creation/lib/xmlConfig.py, FileElement.validate."""

from __future__ import annotations

import posixpath
from pathlib import Path

from lxml import etree

from glideinwms_bosco.entry.configuration import elements
from glideinwms_bosco.entry.lint_context import Scope, shown

_KINDS = ("executable", "wrapper", "untar")
_TYPES = frozenset(("regular", "wrapper", "untar", "source"))
_TYPE_STARTS = ("exec", "config")
_TIMES = frozenset(("prejob", "postjob"))
_TIME_STARTS = ("periodic", "setup", "cleanup")


def check_files(scope: Scope) -> None:
    """Check the files of an entry, or the global ones."""
    seen: dict[str, int] = {}
    for file in elements(scope.element, "files", "file"):
        absfname = str(file.get("absfname", ""))
        if not posixpath.basename(absfname):
            scope.found(60, file, f"absfname={shown(absfname)} names no file")
            continue
        _flags(scope, file)
        _words(scope, file)
        _on_disk(scope, file, absfname)
        if file.get("relfname") == "":
            scope.found(71, file, f"{absfname}: relfname is empty")
        name = str(file.get("relfname") or posixpath.basename(absfname))
        if name in seen:
            scope.found(69, file, f"{shown(name)} on the worker node comes from line {seen[name]} too")
        seen.setdefault(name, scope.source.line(file))


def _on_disk(scope: Scope, file: etree._Element, absfname: str) -> None:
    try:
        missing = not Path(absfname).is_file()
    except (OSError, ValueError):
        missing = True
    if missing:
        # A part of a configuration may be looked at on another machine than the factory.
        severity = "error" if scope.context.configuration.main is not None else "warning"
        scope.found(61, file, f"{shown(absfname)} is not a file on this machine", severity=severity)


def _flags(scope: Scope, file: etree._Element) -> None:
    names = ("const", *_KINDS, "after_entry")
    bad = [name for name in names if file.get(name) not in (None, "True", "False")]
    for name in bad:
        scope.found(62, file, f"{name}={shown(str(file.get(name)))}")
    kinds = [name for name in _KINDS if file.get(name) == "True"]
    if str(file.get("type", "")).startswith("config"):
        kinds.append("config")
    if len(kinds) > 1:
        scope.found(63, file, f"is {' and '.join(kinds)} at once")
    if file.get("const") == "False" and set(kinds) & set(_KINDS):
        scope.found(64, file, f"is {kinds[0]} and const=False")
    period = str(file.get("period", "0"))
    if not period.strip().lstrip("+-").isdecimal():
        scope.found(65, file, f"period={shown(period)} is no whole number")
    elif file.get("executable") != "True" and period.strip().lstrip("+0") and not period.strip().startswith("-"):
        scope.found(65, file, f"period={shown(period)}, but the file is not executable")
    if scope.entry and file.get("after_entry") is not None:
        scope.found(68, file, "after_entry is for global files only")


def _words(scope: Scope, file: etree._Element) -> None:
    type_ = str(file.get("type", "regular"))
    if type_ not in _TYPES and not type_.startswith(_TYPE_STARTS):
        scope.found(66, file, f"type={shown(type_)} is refused")
    elif type_.startswith(_TYPE_STARTS):
        scope.found(70, file, f"type={shown(type_)} has no effect in a factory")
    for time in (part.strip() for part in str(file.get("time", "setup")).split(",")):
        if time not in _TIMES and not time.startswith(_TIME_STARTS):
            scope.found(67, file, f"time={shown(time)} is refused")
        elif time != "setup":
            scope.found(70, file, f"time={shown(time)} has no effect in a factory")
