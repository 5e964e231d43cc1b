# SPDX-License-Identifier: Apache-2.0
"""The programs of an HTCondor source with the libraries they bring: what a source really is, and what it needs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from glideinwms_bosco.bundle.elf import ElfInfo, read_elf
from glideinwms_bosco.bundle.layout import BINARIES, HTCONDOR_SONAMES, LIBRARY_DIRS
from glideinwms_bosco.bundle.tree import SourceFile, SourceTree
from glideinwms_bosco.errors import SourceError

_VERSION = re.compile(rb"\$CondorVersion: ([0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}) [^$\n\0]{0,200}\$")
_PLATFORM = re.compile(rb"\$CondorPlatform: ([A-Za-z0-9_.+-]{1,100}) ?\$")


@dataclass(frozen=True)
class Programs:
    """blahpd, condor_ft-gahp and HTCondor's libraries.

    Attributes:
        files, elf: by path in the bundle.
        htcondor_version, htcondor_platform: as the programs state them.
    """

    files: Mapping[str, SourceFile]
    elf: Mapping[str, ElfInfo]
    htcondor_version: str
    htcondor_platform: str


def program_path(name: str) -> str:
    """Where a bundle holds a program that a launcher starts."""
    return f"libexec/{name}.bin"


def collect_programs(tree: SourceTree) -> Programs:
    """Take blahpd, condor_ft-gahp and, breadth first, the libraries of HTCondor that they ask for.

    Raises:
        SourceError: one is missing, damaged, or they state different versions.
    """
    files: dict[str, SourceFile] = {}
    elf: dict[str, ElfInfo] = {}

    def add(path: str, found: SourceFile) -> ElfInfo:
        files[path], elf[path] = found, read_elf(found.content, found.path)
        return elf[path]

    for name, candidates in BINARIES.items():
        add(program_path(name), must_find(tree, name, candidates))
    pending = list(elf.values())
    while pending:
        for soname in pending.pop(0).needed:
            path = f"lib/{soname}"
            found = None if path in files else tree.find(_library_candidates(soname))
            if found is not None:
                pending.append(add(path, found))
            elif path not in files and soname.startswith(HTCONDOR_SONAMES):
                raise _missing(tree, soname, LIBRARY_DIRS)
    return Programs(files, elf, *_version(tree, files))


def must_find(tree: SourceTree, name: str, candidates: Sequence[str]) -> SourceFile:
    """Find a file that a bundle cannot do without.

    Raises:
        SourceError: the source has none of the candidates.
    """
    found = tree.find(candidates)
    if found is None:
        raise _missing(tree, name, candidates)
    return found


def _missing(tree: SourceTree, name: str, candidates: Sequence[str]) -> SourceError:
    return SourceError(
        f"{tree.label}: no {name} (looked at {', '.join(candidates)})",
        "install HTCondor with its blahp part there, or name another source",
    )


def _library_candidates(soname: str) -> tuple[str, ...]:
    if "/" in soname:
        return ()
    htcondor = soname.startswith(HTCONDOR_SONAMES)
    return tuple(f"{place}/{soname}" for place in LIBRARY_DIRS if htcondor or place.endswith("/condor"))


def _version(tree: SourceTree, files: Mapping[str, SourceFile]) -> tuple[str, str]:
    """Return version and platform as the programs state them; all that state a version must agree."""
    versions: dict[str, str] = {}
    platform = ""
    for path in sorted(files):
        match = _VERSION.search(files[path].content)
        if match is not None:
            versions.setdefault(match.group(1).decode("ascii"), path)
            found = _PLATFORM.search(files[path].content)
            platform = platform or (found.group(1).decode("ascii") if found is not None else "")
    if not versions or not platform:
        raise SourceError(f"{tree.label}: no $CondorVersion$ in condor_ft-gahp", "this is no HTCondor build")
    if len(versions) > 1:
        raise SourceError(f"{tree.label}: holds files of HTCondor {' and '.join(sorted(versions))}", "use one package")
    return next(iter(versions)), platform
