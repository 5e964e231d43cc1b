# SPDX-License-Identifier: Apache-2.0
"""What an HTCondor source asks of the machine it shall run on, read from its programs and remembered for tarballs."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from glideinwms_bosco.bundle.build import open_source
from glideinwms_bosco.bundle.elf import ElfInfo, common_machine, highest_glibc, highest_versions
from glideinwms_bosco.bundle.programs import Programs, collect_programs
from glideinwms_bosco.site.source import HTCondorSource
from glideinwms_bosco.state_folder import make_folder, write_file

FORMAT = 1
MAX_RECORD_BYTES = 64 << 10
MAX_LIBRARIES = 200

_ARCHITECTURE = re.compile(r"[a-z0-9_]{1,20}")
_GLIBC = re.compile(r"(?:[0-9]{1,4}\.[0-9]{1,4})?")
_VERSION = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}")
_SONAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")
# Source: the shared libraries that glibc installs (its shlib-versions), with the dynamic linkers.
_PART_OF_GLIBC = re.compile(r"lib(?:c|m|dl|pthread|rt|util|resolv|anl)\.so\.[0-9]+|ld-linux[a-z0-9_-]*\.so\.[0-9]+")
_SYMBOL_VERSION = re.compile(r"[A-Za-z0-9_.+-]{0,100}")


@dataclass(frozen=True)
class SourcePlatform:
    """One source.

    Attributes:
        architecture: `uname -m` spelling.
        glibc_min: "x.y", the oldest C library its programs run on; empty when they ask for none.
        htcondor_version: "x.y.z".
        libraries: (soname, symbol version) that the system must have beside the C library; the version is empty where
            any will do. Debian's HTCondor 25.14 runs on no older pcre2 than its own, while its glibc_min is that of
            23.9: the C library alone does not tell.
    """

    architecture: str
    glibc_min: str
    htcondor_version: str
    libraries: tuple[tuple[str, str], ...]

    @property
    def release(self) -> tuple[int, ...]:
        """htcondor_version as numbers, for comparing."""
        return tuple(int(part) for part in self.htcondor_version.split("."))


def read_platform(source: HTCondorSource, records: Optional[Path] = None) -> SourcePlatform:
    """Read what a source is from its programs.

    Args:
        source: where to look.
        records: folder in the state folder that remembers tarballs by their digest; one that is known there is not
            opened.

    Raises:
        SourceError: the source cannot be used.
    """
    record = None if records is None or source.sha256 is None else records / f"{source.sha256}.json"
    known = _remembered(record) if record is not None else None
    if known is not None:
        return known
    with open_source(source) as tree:
        platform = platform_of(collect_programs(tree))
    if record is not None:
        # A folder that cannot be written, or a full disk, costs time and nothing else.
        with contextlib.suppress(OSError):
            make_folder(record.parent, record.parent.parent)
            write_file(record, _as_json(platform).encode("ascii"), record.parent.parent)
    return platform


def platform_of(programs: Programs) -> SourcePlatform:
    """What programs ask for that they do not bring."""
    infos = tuple(programs.elf.values())
    brought = {path.rpartition("/")[2] for path in programs.files}
    versions = highest_versions(item for info in infos for item in info.versions)
    foreign = {soname for info in infos for soname in info.needed} - brought - _glibc_parts(infos)
    versioned = {soname for soname, _ in versions}
    libraries = {(soname, version) for soname, version in versions if soname in foreign}
    libraries |= {(soname, "") for soname in foreign - versioned}
    return SourcePlatform(
        common_machine(dict(programs.elf)), highest_glibc(infos), programs.htcondor_version, tuple(sorted(libraries))
    )


def _glibc_parts(infos: tuple[ElfInfo, ...]) -> set[str]:
    """Sonames of the C library itself: glibc_min speaks for them."""
    return {soname for info in infos for soname in info.needed if _PART_OF_GLIBC.fullmatch(soname)}


def _as_json(platform: SourcePlatform) -> str:
    fields = (platform.architecture, platform.glibc_min, platform.htcondor_version)
    return json.dumps([FORMAT, *fields, [list(item) for item in platform.libraries]])


def _remembered(record: Path) -> Optional[SourcePlatform]:
    """Read a record; None when there is none of this format."""
    try:
        with record.open("rb") as stream:
            data = json.loads(stream.read(MAX_RECORD_BYTES).decode("ascii"))
        number, architecture, glibc_min, version, libraries = data
        platform = SourcePlatform(architecture, glibc_min, version, tuple((name, symbol) for name, symbol in libraries))
        fits = number == FORMAT and _usable(platform)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return platform if fits else None


def _usable(platform: SourcePlatform) -> bool:
    plain = (
        (_ARCHITECTURE, platform.architecture),
        (_GLIBC, platform.glibc_min),
        (_VERSION, platform.htcondor_version),
    )
    names = [(_SONAME, name) for name, _ in platform.libraries]
    names += [(_SYMBOL_VERSION, version) for _, version in platform.libraries]
    return len(platform.libraries) <= MAX_LIBRARIES and all(
        isinstance(value, str) and pattern.fullmatch(value) for pattern, value in (*plain, *names)
    )
