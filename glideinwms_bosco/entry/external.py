# SPDX-License-Identifier: Apache-2.0
"""Entries that stand in somebody else's file: found there at every render, and copied whole with our elements added.

glideinWMS knows no way to add to an entry from a second file: a later file's entry replaces an earlier one, and
nothing of that is left (creation/lib/xmlConfig.py, ListElement.merge). So ours is the whole entry, in a file that is
read later, and made anew from the original whenever entries are rendered, which the hook does before each reconfig.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lxml import etree

from glideinwms_bosco.entry.configuration import CONFIG_DIR, Configuration, MergedEntry, elements, read_configuration
from glideinwms_bosco.entry.import_xml import normalised
from glideinwms_bosco.errors import FileProblemsError, Problem, UsageError
from glideinwms_bosco.site.crosscheck_runtime import conflicts
from glideinwms_bosco.site.model import Entry, SiteDescription

_MARK = "gwms-bosco: the entry of"

# `entry drain` sets limits where an entry has them; without attributes these say nothing.
_NEEDED = ("attrs", "files", "config/max_jobs/per_entry", "config/max_jobs/default_per_frontend")

Originals = Mapping[str, etree._Element]
"""Name -> the entry as its own file has it."""
IsOurs = Callable[[Path], bool]
"""Tells of a file of config.d whether we have written it."""


def find_originals(
    site: SiteDescription, configuration: Path, file: str, is_ours: IsOurs
) -> tuple[Originals, tuple[Problem, ...]]:
    """Find the definition of each entry of an external site.

    Args:
        configuration: the factory's glideinWMS.xml, or config.d alone.
        file: name of the file of config.d that the site is rendered to.
    """
    if not site.external:
        return {}, ()
    found: dict[str, etree._Element] = {}
    problems: list[Problem] = []
    read: dict[Path, Configuration] = {}
    for i, entry in enumerate(site.entries):
        where = f"entries[{i}].{'name' if entry.file is None else 'file'}"
        path = configuration if entry.file is None else Path(entry.file)
        try:
            if path not in read:
                read[path] = _others(path, is_ours, alone=entry.file is not None)
            original = next((other for other in read[path].entries() if other.name == entry.name), None)
        except (UsageError, FileProblemsError) as err:
            problems.append(Problem(site.file, site.line(where), where, err.message, "reconfig could not read it"))
            continue
        if original is None:
            message = f"{path} has no entry {entry.name!r} other than ours"
            hint = "an external entry stands in another file of the factory's configuration, outside entry sets"
            problems.append(Problem(site.file, site.line(where), where, message, hint))
            continue
        found[entry.name] = original.winner.element
        for message, hint in _findings(site, original, file):
            problems.append(Problem(site.file, site.line(where), where, message, hint))
    return found, tuple(problems)


def copied(
    original: etree._Element, site: SiteDescription, entry: Entry, attrs: Sequence[etree._Element]
) -> etree._Element:
    """The whole entry with attributes added; they replace those of the same name.

    Returns:
        A new element, which has a `<files>`.
    """
    element = normalised(original)
    if not (site.enabled and entry.enabled):
        element.set("enabled", "False")
    for path in _NEEDED:
        _child(element, path)
    parent = _child(element, "attrs")
    named = {attr.get("name") for attr in attrs}
    kept = [attr for attr in parent if attr.get("name") not in named]
    parent[:] = sorted((*kept, *attrs), key=lambda attr: attr.get("name") or "")
    place = entry.file or "the factory's configuration"
    element.insert(0, etree.Comment(f" {_MARK} {place}, with what pilots bring along. ".replace("--", "- -")))
    return element


def _child(element: etree._Element, path: str) -> etree._Element:
    for tag in path.split("/"):
        found = element.find(tag)
        element = etree.SubElement(element, tag) if found is None else found
    return element


def is_copy(entry: etree._Element) -> bool:
    """Tell whether an entry of our files is a copy, whose original counts again when it goes."""
    return any((comment.text or "").startswith(f" {_MARK} ") for comment in entry.iterchildren(etree.Comment))


def _others(path: Path, is_ours: IsOurs, *, alone: bool) -> Configuration:
    """The configuration without our own files.

    Args:
        alone: of the file itself, without the config.d beside it.
    """
    configuration = read_configuration([path])
    if configuration.problems:
        raise FileProblemsError(configuration.problems)
    sources = tuple(
        source
        for source in configuration.sources
        if not is_ours(Path(source.file)) and (not alone or Path(source.file) == path)
    )
    return replace(configuration, sources=sources)


def _findings(site: SiteDescription, original: MergedEntry, file: str) -> Iterator[tuple[str, str]]:
    place = Path(original.winner.file)
    if place.parent.name == CONFIG_DIR and place.name >= file:
        message = f"{original.winner} is read after {file}, and would replace what is written there"
        yield message, "raise `order` in gwms-bosco.yaml, or rename that file"
    if original.twins:
        yield f"{original.winner} and {original.twins[0]} define it twice, which reconfig mixes", "keep one"
    if site.runtime is not None:
        attrs = elements(original.winner.element, "attrs", "attr")
        values = [(str(attr.get("name")), str(attr.get("value") or "")) for attr in attrs]
        for message, hint in conflicts(site.runtime, values):
            yield f"{original.winner}: {message}", hint
