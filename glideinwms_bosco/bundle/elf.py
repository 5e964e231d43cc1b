# SPDX-License-Identifier: Apache-2.0
"""What the remote machine must offer to an ELF file: architecture, libraries, C library version."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Optional

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

from glideinwms_bosco.errors import SourceError

# ELF e_machine (and 32/64 bit) -> `uname -m`. Source: System V ABI registry; the machines HTCondor is built for.
_MACHINES: dict[tuple[str, int, bool], str] = {
    ("EM_X86_64", 64, True): "x86_64",
    ("EM_AARCH64", 64, True): "aarch64",
    ("EM_PPC64", 64, True): "ppc64le",
    ("EM_386", 32, True): "i686",
}
_GLIBC = re.compile(r"GLIBC_([0-9]{1,4})\.([0-9]{1,4})(?:\.[0-9]{1,4})?")
_NUMBERED = re.compile(r"(.+)_([0-9]{1,6}(?:\.[0-9]{1,6}){0,5})")
# What pyelftools lets through on a damaged file, beside its own class.
_DAMAGED = (ELFError, ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError, OverflowError)


@dataclass(frozen=True)
class ElfInfo:
    """One ELF file.

    Attributes:
        machine: `uname -m` spelling.
        needed: NEEDED sonames.
        runpath: RUNPATH or RPATH.
        glibc: highest GLIBC_x.y it asks for.
        versions: (soname, version) of the symbol versions it asks other libraries for, such as
            ("libstdc++.so.6", "GLIBCXX_3.4.32"); of each kind of a library the highest, sorted.
    """

    machine: str
    needed: tuple[str, ...]
    runpath: str
    glibc: Optional[tuple[int, int]]
    versions: tuple[tuple[str, str], ...] = ()


def read_elf(content: bytes, path: str) -> ElfInfo:
    """Read the dynamic section of an ELF file.

    Raises:
        SourceError: not an ELF file, a damaged one, or a machine HTCondor is not built for; `path` names it.
    """
    if content[:4] != b"\x7fELF":
        raise SourceError(f"{path} is not an ELF file", "the source must hold the real program, not a wrapper script")
    try:
        elf = ELFFile(io.BytesIO(content))
        key = (str(elf["e_machine"]), int(elf.elfclass), bool(elf.little_endian))
        needed, runpath = _dynamic(elf)
        versions = _versions(elf)
    except _DAMAGED as error:
        raise SourceError(f"{path} is a damaged ELF file", "fetch the HTCondor source again") from error
    if key not in _MACHINES:
        raise SourceError(f"{path} is built for an unknown machine ({key[0]}, {key[1]} bit)", "use another source")
    glibc = [match for _, name in versions if (match := _GLIBC.fullmatch(name))]
    highest = max(((int(match.group(1)), int(match.group(2))) for match in glibc), default=None)
    others = tuple(item for item in versions if not item[1].startswith("GLIBC_"))
    return ElfInfo(_MACHINES[key], needed, runpath, highest, highest_versions(others))


def _dynamic(elf: ELFFile) -> tuple[tuple[str, ...], str]:
    needed: list[str] = []
    runpath = ""
    for segment in elf.iter_segments():
        if not isinstance(segment, DynamicSegment):
            continue
        tag: Any  # pyelftools sets the attribute that belongs to the kind of tag
        for tag in segment.iter_tags():
            if tag.entry.d_tag == "DT_NEEDED":
                needed.append(str(tag.needed))
            elif tag.entry.d_tag == "DT_RUNPATH":
                runpath = str(tag.runpath)
            elif tag.entry.d_tag == "DT_RPATH" and not runpath:
                runpath = str(tag.rpath)
    return tuple(needed), runpath


def _versions(elf: ELFFile) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for section in elf.iter_sections():
        if not isinstance(section, GNUVerNeedSection):
            continue
        for library, symbols in section.iter_versions():
            found += [(str(library.name), str(symbol.name)) for symbol in symbols]
    return tuple(found)


def highest_versions(versions: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Keep the highest version of each kind (the part before the last `_`) of each library; sorted.

    Libraries keep their old symbol versions, so whoever has the highest has the others too.
    """
    highest: dict[tuple[str, str], str] = {}
    for soname, name in versions:
        match = _NUMBERED.fullmatch(name)
        kind = (soname, match.group(1) if match else name)
        if kind not in highest or _number(highest[kind]) < _number(name):
            highest[kind] = name
    return tuple(sorted((soname, name) for (soname, _), name in highest.items()))


def _number(name: str) -> tuple[int, ...]:
    match = _NUMBERED.fullmatch(name)
    return tuple(int(part) for part in match.group(2).split(".")) if match else ()


def common_machine(infos: dict[str, ElfInfo]) -> str:
    """Return the one machine of all files.

    Raises:
        SourceError: files of different machines, named.
    """
    by_machine = {info.machine: path for path, info in sorted(infos.items(), reverse=True)}
    if len(by_machine) != 1:
        named = ", ".join(f"{path} is {machine}" for machine, path in sorted(by_machine.items()))
        raise SourceError(f"mixed architectures in the HTCondor source: {named}", "use one package, not a mixture")
    return next(iter(by_machine))


def highest_glibc(infos: Iterable[ElfInfo]) -> str:
    """Return "x.y", the lowest C library version that all files run on; empty when none asks for one."""
    versions = [info.glibc for info in infos if info.glibc is not None]
    return "{}.{}".format(*max(versions)) if versions else ""
