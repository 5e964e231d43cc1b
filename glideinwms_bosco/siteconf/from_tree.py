# SPDX-License-Identifier: Apache-2.0
"""Read a folder as readers do whose SITECONFIG_PATH names it: every `..` and link is resolved by the kernel.

What cannot be read is a finding, not an exception: a broken tree is what `check` is for.

Source: cms-sw/cmssw FWCore/Services/src/SiteLocalConfigService.cc (storageDescriptionPath: canonical); dmwm/WMCore
src/python/WMCore/Storage/RucioFileCatalog.py (storageJsonPath: realpath).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Optional, TypeVar, Union

from glideinwms_bosco.errors import Problem, SiteconfFileError, UsageError
from glideinwms_bosco.siteconf.codes import Finding
from glideinwms_bosco.siteconf.model import (
    CATALOG_NAME,
    CONFIG_NAME,
    LOCAL_NAME,
    STORAGE_NAME,
    CatalogRef,
    Siteconf,
    SiteLocalConfig,
    StageOutMethod,
    StorageItem,
)
from glideinwms_bosco.siteconf.read_config import config_of
from glideinwms_bosco.siteconf.storage_json import parse_storage
from glideinwms_bosco.siteconf.structure import structure_findings
from glideinwms_bosco.siteconf.text_file import read_text, refuse
from glideinwms_bosco.siteconf.tfc import read_catalog
from glideinwms_bosco.siteconf.xml_file import XmlFile, read_xml

MAX_REFERENCES = 100
"""Catalogs and methods that are looked up; production sites have up to 6."""

MAX_VALUES = 20_000
"""Of values in a storage.json; the largest real ones have some hundred. Each costs microseconds to read."""

# No dot at the start: a name must not lead elsewhere.
_SITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_Value = TypeVar("_Value")
Reference = Union[CatalogRef, StageOutMethod]


@dataclass(frozen=True)
class Tree:
    """What a folder says, and where it says it.

    Attributes:
        path: SITECONFIG_PATH, as the operator gave it.
        siteconf: what could be read; its `config` is empty unless `has_config`.
        config_file: the site-local-config.xml.
        storage_files: name of a site -> its storage.json, resolved; only those that are there.
        absent: name of a site -> code and sentence of what is wrong with its storage.json; code 0: it is there, and
            `findings` say why it cannot be read.
        catalog_file: PhEDEx/storage.xml.
        site_folder: name of the folder that is the site's, links resolved.
        findings: of reading.
    """

    path: Path
    siteconf: Siteconf
    has_config: bool
    config_file: str
    storage_files: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    catalog_file: str = ""
    site_folder: str = ""
    findings: tuple[Finding, ...] = ()

    def storage_site(self, reference: Reference) -> str:
        """The site whose storage.json a catalog or method is looked up in."""
        return reference.site or self.siteconf.config.site


def find_siteconfig_path(folder: Path) -> Path:
    """The folder that SITECONFIG_PATH would name: the given one, or the `local` of a whole SITECONF.

    Raises:
        UsageError: it is no folder, or has neither a configuration nor a storage.json.
    """
    if not folder.is_dir() and not folder.is_symlink():
        raise UsageError(f"{folder}: is no folder", "name a site's folder of a SITECONF, or the SITECONF")
    if any(os.path.lexists(folder / name) for name in ("JobConfig", STORAGE_NAME)) or folder.is_symlink():
        return folder
    if os.path.lexists(folder / LOCAL_NAME):
        return folder / LOCAL_NAME
    known = sorted(path.parent.parent.name for path in folder.glob(f"*/{CONFIG_NAME}"))
    hint = f"name one of its sites: {', '.join(known[:10])}" if known else f"it needs {CONFIG_NAME}"
    raise UsageError(f"{folder}: has neither {CONFIG_NAME} nor {LOCAL_NAME}", hint)


def read_tree(folder: Path) -> Tree:
    """Read a site's folder (or the `local` of a SITECONF) with everything that it refers to.

    Raises:
        UsageError: there is no such folder.
    """
    reader = _Reader(find_siteconfig_path(folder))
    return reader.tree()


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._findings: list[Finding] = []
        self._storage_files: dict[str, str] = {}
        self._absent: dict[str, tuple[int, str]] = {}

    def tree(self) -> Tree:
        config_path = self._path / CONFIG_NAME
        config = self._config(config_path)
        has_config = config is not None
        config = config or SiteLocalConfig(site="")
        up = "/.." if config.subsite else ""
        storage = self._storage(config.site, f"{self._path}{up}/{STORAGE_NAME}", own=True)
        siblings = self._siblings(config, f"{self._path}{up}/..")
        catalog_path = Path(f"{self._path}{up}/{CATALOG_NAME}")
        catalog = self._file(catalog_path, read_catalog) if os.path.lexists(catalog_path) else None
        siteconf = Siteconf(config, storage or (), siblings, catalog)
        return Tree(
            self._path,
            siteconf,
            has_config,
            str(config_path),
            self._storage_files,
            self._absent,
            str(catalog_path),
            Path(os.path.realpath(f"{self._path}{up}")).name,
            tuple(self._findings),
        )

    def _config(self, path: Path) -> Optional[SiteLocalConfig]:
        lost = _lost(str(path))
        if lost:
            number, message = lost
            self._findings.append(Finding(str(path), 0, number or 2, message or "is not there"))
            return None
        source = self._file(path, read_xml)
        return None if source is None else self._config_of(source)

    def _config_of(self, source: XmlFile) -> Optional[SiteLocalConfig]:
        found = structure_findings(source)
        self._findings += found
        if any(finding.number == 5 for finding in found):
            return None
        return self._file(Path(source.file), lambda _path: config_of(source))

    def _siblings(self, config: SiteLocalConfig, beside: str) -> dict[str, tuple[StorageItem, ...]]:
        references: list[Reference] = [*config.data_access, *config.stage_out]
        if len(references) > MAX_REFERENCES:
            message = f"has more than {MAX_REFERENCES} catalogs and methods; the rest is not looked at"
            self._findings.append(Finding(str(self._path / CONFIG_NAME), references[MAX_REFERENCES].line, 49, message))
        siblings: dict[str, tuple[StorageItem, ...]] = {}
        for reference in references[:MAX_REFERENCES]:
            site = reference.site
            if not site or site == config.site or site in siblings or site in self._absent:
                continue
            if not _SITE_NAME.fullmatch(site):
                self._absent[site] = (28, f"{site[:60]!r} is no name of a site")
                continue
            items = self._storage(site, f"{beside}/{site}/{STORAGE_NAME}", own=False)
            if items is not None:
                siblings[site] = items
        return siblings

    def _storage(self, site: str, path: str, own: bool) -> Optional[tuple[StorageItem, ...]]:
        lost = _lost(path)
        if lost:
            number, message = lost
            if not number:
                beside = os.path.normpath(path)
                number = 4 if own else 21 if Path(beside).exists() else 20
                message = f"no {path}" + (f", while {beside} is there" if number == 21 else "")
            self._absent[site] = (number, message)
            return None
        resolved = os.path.realpath(path)
        items = self._file(Path(resolved), _read_storage)
        if items is None:
            self._absent[site] = (0, f"{resolved} cannot be read")
            return None
        self._storage_files[site] = resolved
        return items

    def _file(self, path: Path, read: Callable[[Path], _Value]) -> Optional[_Value]:
        try:
            return read(path)
        except SiteconfFileError as err:
            self._findings += [
                Finding(problem.file, problem.line, _number(problem), _words(problem)) for problem in err.problems
            ]
            return None


def _read_storage(path: Path) -> tuple[StorageItem, ...]:
    text = read_text(path)
    if sum(map(text.count, ",[{")) > MAX_VALUES:
        refuse(str(path), 0, f"has more than {MAX_VALUES} values", "remove what does not belong in it")
    return parse_storage(text, str(path))


def _number(problem: Problem) -> int:
    """The code of what a reader of ours refuses: a protocol with neither prefix nor rules has one of its own."""
    return 33 if problem.field.endswith(".rules") and problem.message == "missing" else 1


def _words(problem: Problem) -> str:
    field = f"{problem.field}: " if problem.field else ""
    return f"{field}{problem.message}{f'; {problem.hint}' if problem.hint else ''}"


def _lost(path: str) -> Optional[tuple[int, str]]:
    """Why a path leads to no file: number and sentence; number 0 when it is simply not there. None: it leads to one."""
    try:
        Path(path).stat()
    except OSError as err:
        if err.errno == errno.ELOOP:
            return 3, f"{path}: its links lead in a circle"
        dangling = _dangling(path)
        if dangling:
            return 3, f"{dangling} is a link to nothing"
        if err.errno not in (errno.ENOENT, errno.ENOTDIR):
            return 1, f"{path}: {err.strerror}"
        return 0, ""
    except ValueError:
        return 1, f"{path[:60]!r} is no possible path"
    return None


def _dangling(path: str) -> str:
    """The first part of a path that is a link to nothing."""
    parts = path.split("/")
    for i in range(1, len(parts) + 1):
        part = Path("/".join(parts[:i]) or "/")
        if part.is_symlink() and not part.exists():
            return str(part)
    return ""


def moved(tree: Tree, old: str, new: str) -> Tree:
    """The same tree with other names of its files, for one that was unpacked only to be looked at."""

    def named(text: str) -> str:
        return text.replace(old, new)

    return replace(
        tree,
        path=Path(named(str(tree.path))),
        config_file=named(tree.config_file),
        storage_files={site: named(path) for site, path in tree.storage_files.items()},
        absent={site: (number, named(message)) for site, (number, message) in tree.absent.items()},
        catalog_file=named(tree.catalog_file),
        findings=tuple(
            replace(finding, file=named(finding.file), message=named(finding.message)) for finding in tree.findings
        ),
    )
