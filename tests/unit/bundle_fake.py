# SPDX-License-Identifier: Apache-2.0
"""A small fake HTCondor for the bundle tests: real ELF files (the machine's own `true`), made-up scripts."""

from __future__ import annotations

import functools
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from glideinwms_bosco.bundle.layout import LAYOUTS
from glideinwms_bosco.bundle.repairs import find_patchelf

VERSION = "23.9.6"
UTILS = "libcondor_utils_23_9_6.so"
CLASSAD = "libclassad.so.23.9.6"
BLAH_CONFIG = "# shipped\nslurm_binpath=/usr/bin\npbs_binpath=/usr/bin\nsge_rootpath=$SGE_ROOT\nslurm_binpath=/again\n"
BLAH_PY = "# TODO: readfp() is replaced by read_file() in Python 3.2+\nself.readfp(vfile)\n"


def version_string(version: str = VERSION, platform: str = "X86_64-Debian_13") -> bytes:
    """The two strings that every HTCondor program carries."""
    return f"\0$CondorVersion: {version} 2026-07-12 PackageID: x $\0$CondorPlatform: {platform} $\0".encode()


@functools.cache
def elf(*needed: str) -> bytes:
    """A runnable ELF file that asks for further libraries."""
    program = shutil.which("true")
    assert program is not None
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory) / "true"
        place.write_bytes(Path(program).read_bytes())
        for name in needed:
            subprocess.run([find_patchelf(), "--add-needed", name, str(place)], check=True, timeout=60)
        return place.read_bytes()


def make_root(root: Path, *, version: str = VERSION, blah_py: str = BLAH_PY) -> Path:
    """An installed HTCondor as Debian lays it out, with its absolute links to /etc/blahp."""
    content: dict[str, bytes] = {
        "usr/bin/blahpd": elf(),
        "usr/sbin/condor_ft-gahp": elf(CLASSAD, UTILS) + version_string(version),
        f"usr/lib/{UTILS}": elf(CLASSAD) + version_string(version),
        f"usr/lib/{CLASSAD}": elf(),
        "usr/lib/libc.so.6": b"not HTCondor's",
        "etc/blah.config": BLAH_CONFIG.encode(),
        "usr/libexec/blahp/blah.py": blah_py.encode(),
        "usr/libexec/blahp/__pycache__/blah.cpython-313.pyc": b"cache",
    }
    for layout in LAYOUTS.values():
        for name in layout.scripts:
            content.setdefault(f"usr/libexec/blahp/{name}", f"#!/bin/sh\n# {name}\n".encode())
    for path, data in content.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    (root / "etc/blahp").mkdir()
    for place in (root / "usr/libexec/blahp").glob("*_local_submit_attributes.sh"):
        place.rename(root / "etc/blahp" / place.name)
        place.symlink_to(f"/etc/blahp/{place.name}")
    return root


def tar_gz(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> str:
    """Write a tar.gz of these members; returns its sha256."""
    with tarfile.open(path, "w:gz") as tar:
        for info, data in members:
            info.size = len(data) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(data))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def file_member(name: str, data: bytes = b"") -> tuple[tarfile.TarInfo, bytes]:
    """A regular file."""
    return tarfile.TarInfo(name), data


def link_member(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    """A symbolic or hard link."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def release_members(root: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    """The files of an installed root in release layout: one top directory, usr/ and links to it, relative links."""
    top = "condor-23.9.6-1-x86_64_Debian13-stripped"
    members = [link_member(f"{top}/{name}", f"usr/{name}") for name in ("bin", "sbin", "lib")]
    for place in sorted(root.rglob("*")):
        name = str(place.relative_to(root))
        if place.is_symlink():
            members.append(link_member(f"{top}/{name}", f"../../../etc/blahp/{place.name}"))
        elif place.is_file():
            members.append(file_member(f"{top}/{name}", place.read_bytes()))
    return members


def make_release_like_tarball(path: Path, root: Path) -> str:
    """A tarball that looks like a release but is made from an installed root; returns its sha256."""
    return tar_gz(path, release_members(root))
