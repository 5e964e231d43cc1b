# SPDX-License-Identifier: Apache-2.0
"""Check a factory configuration before reconfig does: every rule over every entry that counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lxml import etree

from glideinwms_bosco.entry.configuration import MAIN_FILE, MergedEntry, elements, read_configuration
from glideinwms_bosco.entry.external import is_copy
from glideinwms_bosco.entry.lint_attrs import check_attrs
from glideinwms_bosco.entry.lint_batch import check_entry
from glideinwms_bosco.entry.lint_codes import RULES
from glideinwms_bosco.entry.lint_context import GWMS_VERSIONS, Context, Finding, Scope
from glideinwms_bosco.entry.lint_files import check_files
from glideinwms_bosco.entry.lint_limits import check_limits
from glideinwms_bosco.entry.lint_structure import check_structure
from glideinwms_bosco.entry.lint_submit import bindings_missing, check_submit
from glideinwms_bosco.entry.lint_versions import check_version
from glideinwms_bosco.errors import UsageError

_Check = Callable[[Scope], None]
_ENTRY: tuple[_Check, ...] = (
    check_structure,
    check_entry,
    check_limits,
    check_attrs,
    check_files,
    check_submit,
    check_version,
)
_ENTRY_SET: tuple[_Check, ...] = (check_structure, check_limits, check_attrs, check_files, check_submit)
_FILE: tuple[_Check, ...] = (check_structure, check_attrs, check_files)
_TARBALL_KEYS = ("version", "os", "arch")


def lint(paths: Sequence[Path], gwms_version: str = GWMS_VERSIONS[0]) -> tuple[Finding, ...]:
    """Check the configuration that these files and folders make up.

    Args:
        gwms_version: one of GWMS_VERSIONS.

    Returns:
        All findings, by file in the order glideinWMS reads them, then by line. Entries that a later file replaces are
        not looked into: reconfig does not see them either.

    Raises:
        UsageError: a path names nothing to read, or the version is not known.
    """
    if gwms_version not in GWMS_VERSIONS:
        raise UsageError(f"glideinWMS version {gwms_version!r} is not known", f"one of: {', '.join(GWMS_VERSIONS)}")
    configuration = read_configuration(paths)
    context = Context(configuration, gwms_version, configuration.global_attrs())
    for problem in configuration.problems:
        remedy = problem.hint or RULES[1].remedy
        context.findings.append(
            Finding(problem.file, problem.line, "error", RULES[1].code, "", problem.message, remedy)
        )
    for source in configuration.sources:
        scope = Scope(context, source, source.root)
        _run(_FILE, scope)
        _nameless(scope)
        if configuration.main is None and Path(source.file).name == MAIN_FILE:
            scope.found(110, source.root, "<glidein> has no factory_name")
    for entry in configuration.entries():
        for scope in _scopes(context, entry):
            _run(_ENTRY, scope)
            _tarball(scope)
    for entry_set in configuration.entry_sets():
        for scope in _scopes(context, entry_set):
            _run(_ENTRY_SET, scope)
            _tarball(scope)
            for element in elements(scope.element, "entries", "entry"):
                inner = Scope(context, scope.source, element, str(element.get("name", "")))
                _run((check_structure, check_entry, check_version), inner)
    if bindings_missing() and any(source.root.find(".//submit_attr") is not None for source in configuration.sources):
        first = configuration.sources[0]
        Scope(context, first, first.root).found(86, first.root, RULES[86].what)
    order = {source.file: i for i, source in enumerate(configuration.sources)}
    return tuple(sorted(context.findings, key=lambda found: (order.get(found.file, -1), found.line, found.code)))


def _run(checks: Sequence[_Check], scope: Scope) -> None:
    for check in checks:
        check(scope)


def _nameless(scope: Scope) -> None:
    root = scope.element
    for group, tag, key in (("entries", "entry", "name"), ("entry_sets", "entry_set", "alias")):
        for element in elements(root, group, tag):
            if not element.get(key):
                scope.found(10, element, f"<{tag}> has no {key}")
            for inner in elements(element, "entries", "entry") if tag == "entry_set" else ():
                if not inner.get("name"):
                    scope.found(10, inner, "<entry> has no name")


def _scopes(context: Context, entry: MergedEntry) -> Iterator[Scope]:
    """The definitions of an entry that reconfig reads, after a word about those it does not."""
    winner = Scope(context, entry.winner.source, entry.winner.element, entry.name)
    yield winner
    # A copy with our elements replaces its original, and is made to.
    replaced = entry.replaced[:-1] if is_copy(entry.winner.element) else entry.replaced
    for place in replaced:
        old = Scope(context, place.source, place.element, entry.name)
        old.found(7, place.element, f"is replaced by the one at {entry.winner}, which alone counts")
    for place in entry.twins:
        twin = Scope(context, place.source, place.element, entry.name)
        twin.found(8, place.element, f"stands at {entry.winner} too")
        yield twin


def _tarball(scope: Scope) -> None:
    """Find entries that ask for an HTCondor the factory does not have.

    Source: glideinWMS 3.10 creation/lib/cgWParamDict.py, validate_condor_tarball_attrs.
    """
    configuration = scope.context.configuration
    if configuration.main is None:
        return  # the tarballs stand in a file that is not looked at
    wanted = {key: _value(scope.attr(f"CONDOR_{key.upper()}")) for key in _TARBALL_KEYS}
    for source in configuration.sources:
        for tarball in elements(source.root, "condor_tarballs", "condor_tarball"):
            offered = {key: str(tarball.get(key, "default")).split(",") for key in _TARBALL_KEYS}
            if all(
                (key != "version" and wanted[key] == "auto") or wanted[key] in map(str.strip, offered[key])
                for key in _TARBALL_KEYS
            ):
                return
    what = ", ".join(f"CONDOR_{key.upper()}={value}" for key, value in wanted.items())
    scope.found(29, scope.element, f"no condor_tarball has {what}")


def _value(attr: object) -> str:
    return str(attr.get("value", "default")) if isinstance(attr, etree._Element) else "default"
