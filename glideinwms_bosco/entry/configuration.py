# SPDX-License-Identifier: Apache-2.0
"""Which files make up a factory configuration, and what glideinWMS makes of them together.

Source of all rules here: glideinWMS 3.10 creation/lib/factoryXmlConfig.py (parse) and creation/lib/xmlConfig.py
(DictElement.merge, ListElement.merge).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from lxml import etree

from glideinwms_bosco.entry.xml_source import EntryXml, read_entry_xml
from glideinwms_bosco.errors import EntryFileError, Problem, UsageError

ROOT_TAG = "glidein"
MAIN_FILE = "glideinWMS.xml"
CONFIG_DIR = "config.d"
MAX_FILES = 2_000
"""Files of one configuration; each is opened and parsed."""

# Elements that are lists, and the attributes that tell their elements apart.
LIST_KEYS: dict[str, tuple[str, ...]] = {
    "allow_frontends": ("name",),
    "attrs": ("name",),
    "condor_tarballs": ("arch", "os", "version"),
    "entries": ("name",),
    "entry_sets": ("alias",),
    "files": ("absfname",),
    "frontends": ("name",),
    "infosys_refs": ("ref",),
    "monitoring_collectors": ("DN",),
    "monitorgroups": ("group_name",),
    "per_frontends": ("name",),
    "process_logs": ("extension",),
    "security_classes": ("username",),
    "submit_attrs": ("name",),
}


@dataclass(frozen=True, eq=False)
class Place:
    """One element, and where it stands."""

    source: EntryXml
    element: etree._Element

    @property
    def file(self) -> str:
        """Path as the operator gave it."""
        return self.source.file

    @property
    def line(self) -> int:
        """1-based."""
        return self.source.line(self.element)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, eq=False)
class MergedEntry:
    """An entry (or entry set) as reconfig sees it.

    Attributes:
        name: the entry's name, or the alias of an entry set.
        winner: the definition that counts.
        replaced: definitions of that name in earlier files, in the order they were read; nothing of them is left.
        twins: further definitions in the winner's own file; reconfig mixes them.
    """

    name: str
    winner: Place
    replaced: tuple[Place, ...] = ()
    twins: tuple[Place, ...] = ()


@dataclass(frozen=True, eq=False)
class Configuration:
    """All files of a configuration, in the order glideinWMS reads them.

    Attributes:
        sources: the files that could be read and have the root `<glidein>`.
        main: the file with the settings of the factory itself (attribute factory_name); None for parts of a
            configuration.
        problems: files that could not be read.
    """

    sources: tuple[EntryXml, ...]
    main: Optional[EntryXml]
    problems: tuple[Problem, ...]

    def entries(self) -> tuple[MergedEntry, ...]:
        """All entries outside entry sets that have a name, sorted by it."""
        return self._named("entries", "entry")

    def entry_sets(self) -> tuple[MergedEntry, ...]:
        """All entry sets that have an alias, sorted by it."""
        return self._named("entry_sets", "entry_set")

    def global_attrs(self) -> dict[str, Place]:
        """Name -> the global `<attr>` that counts."""
        return {
            str(element.get("name")): Place(source, element)
            for source in self.sources
            for element in elements(source.root, "attrs", "attr")
            if element.get("name")
        }

    def _named(self, group: str, tag: str) -> tuple[MergedEntry, ...]:
        (key,) = LIST_KEYS[group]
        found: dict[str, list[list[Place]]] = {}
        for source in self.sources:
            here: dict[str, list[Place]] = {}
            for element in elements(source.root, group, tag):
                if element.get(key):
                    here.setdefault(str(element.get(key)), []).append(Place(source, element))
            for name, places in here.items():
                found.setdefault(name, []).append(places)
        return tuple(
            MergedEntry(
                name,
                files[-1][0],
                tuple(place for places in files[:-1] for place in places),
                tuple(files[-1][1:]),
            )
            for name, files in sorted(found.items())
        )


def configuration_files(path: Path) -> tuple[Path, ...]:
    """The files that glideinWMS reads for this path, in its order.

    A file with a folder `config.d` beside it means both; a folder with a `glideinWMS.xml` means that file; any other
    folder means its `*.xml`.

    Raises:
        UsageError: there is no such file or folder, or it holds no XML file, or too many.
    """
    try:
        if path.is_dir():
            main = path / MAIN_FILE
            if main.is_file():
                return configuration_files(main)
            files = _xml_files(path)
            if not files:
                hint = "`gwms-bosco entry render` writes entries; or name a glideinWMS.xml or another config.d"
                raise UsageError(f"{path}: holds no *.xml", hint)
            return files
        if not path.exists():
            raise UsageError(f"{path}: there is no such file or folder", "name a glideinWMS.xml or a config.d")
        beside = path.parent / CONFIG_DIR
        return (path, *(_xml_files(beside) if beside.is_dir() else ()))
    except OSError as err:
        raise UsageError(f"{path}: cannot be read: {err.strerror}", "check its permissions") from None
    except ValueError:
        raise UsageError("the path has a NUL character", "name a file or folder") from None


def _xml_files(folder: Path) -> tuple[Path, ...]:
    # glideinWMS sorts the plain names and looks at their end only; Path.glob would do other than that for .xml names.
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(".xml"))
    if len(names) > MAX_FILES:
        raise UsageError(f"{folder}: holds more than {MAX_FILES} files", "name the files to look at")
    return tuple(folder / name for name in names)


def read_configuration(paths: Sequence[Path]) -> Configuration:
    """Read files of a configuration, later ones over earlier ones; a file given twice counts once.

    Raises:
        UsageError: a path names nothing that could be read.
    """
    files = list(dict.fromkeys(file for path in paths for file in configuration_files(path)))
    sources: list[EntryXml] = []
    problems: list[Problem] = []
    for file in files:
        try:
            source = read_entry_xml(file)
        except EntryFileError as err:
            problems += err.problems
            continue
        if source.root.tag == ROOT_TAG:
            sources.append(source)
        else:
            message = f"the root element is <{source.root.tag}>, not <{ROOT_TAG}>"
            hint = f"put everything into one <{ROOT_TAG}>"
            problems.append(Problem(source.file, source.line(source.root), "", message, hint))
    main = next((source for source in sources if source.root.get("factory_name") is not None), None)
    return Configuration(tuple(sources), main, tuple(problems))


def child(element: etree._Element, tag: str) -> Optional[etree._Element]:
    """The child of that name that counts: of two, glideinWMS keeps the last."""
    found = element.findall(tag)
    return found[-1] if found else None


def elements(element: etree._Element, group: str, tag: str) -> Iterator[etree._Element]:
    """The elements `tag` of the list `group` that counts, in the order of the file."""
    parent = child(element, group)
    return iter(()) if parent is None else parent.iterchildren(tag)


def merged_root(configuration: Configuration) -> etree._Element:
    """The whole configuration as one new `<glidein>` element, before defaults: what reconfig works on."""
    root = etree.Element(ROOT_TAG)
    for source in configuration.sources:
        _merge(root, source.root)
    return root


def _merge(into: etree._Element, other: etree._Element) -> None:
    if into.tag in LIST_KEYS:
        _merge_list(into, other)
        return
    for name, value in other.attrib.items():
        into.set(name, value)
    for element in other.iterchildren(etree.Element):
        if child(other, str(element.tag)) is not element:
            continue
        known = child(into, str(element.tag))
        if known is None:
            into.append(_copy(element))
        else:
            _merge(known, element)


def _copy(element: etree._Element) -> etree._Element:
    copied = copy.deepcopy(element)
    copied.tail = None
    return copied


def _key(element: etree._Element, group: str) -> tuple[str, ...]:
    return tuple(str(element.get(name, "")) for name in LIST_KEYS[group])


def _merge_list(into: etree._Element, other: etree._Element) -> None:
    """Merge two lists, each sorted by key: the later file's element replaces one earlier element of equal key."""
    group = str(into.tag)
    mine = sorted(into.iterchildren(etree.Element), key=lambda element: _key(element, group))
    theirs = sorted(other.iterchildren(etree.Element), key=lambda element: _key(element, group))
    merged: list[etree._Element] = []
    i = 0
    for element in theirs:
        while i < len(mine) and _key(mine[i], group) < _key(element, group):
            merged.append(mine[i])
            i += 1
        if i < len(mine) and _key(mine[i], group) == _key(element, group):
            i += 1
        merged.append(_copy(element))
    merged += mine[i:]
    into[:] = merged
