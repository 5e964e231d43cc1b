# SPDX-License-Identifier: Apache-2.0
"""Files laid over a bundle, beside HTCondor's and ours or in their place: which are taken, and with which mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.bundle.layout import (
    BLAH_CONFIG_PATH,
    CONF_PATH,
    EXECUTABLE,
    FT_GAHP_CONFIG_PATH,
    HTCONDOR_SONAMES,
    PLAIN,
    executed_paths,
    launcher_paths,
)
from glideinwms_bosco.bundle.manifest import MANIFEST_NAME, is_safe_path
from glideinwms_bosco.bundle.programs import program_path

MAX_EXTRA_FILES = 64
MAX_EXTRA_FILE_BYTES = 8 << 20
MAX_EXTRA_BYTES = 32 << 20
MAX_EXTRA_PATH_CHARS = 200
ELF_MAGIC = b"\x7fELF"

# path -> why it cannot be replaced, and what to do instead.
_KEPT: dict[str, tuple[str, str]] = {
    MANIFEST_NAME: ("is the bundle's own list of its files", "choose another path"),
    CONF_PATH: ("says which batch system and folder the bundle was made for", "choose another path"),
    FT_GAHP_CONFIG_PATH: (
        "keeps sandbox/ and log/ outside the versions; without it an upgrade loses the output of running jobs",
        "choose another path",
    ),
    BLAH_CONFIG_PATH: (
        "holds settings without which exit codes are lost",
        "set its keys by `batch.settings`, or `batch_settings` in gwms-bosco.yaml",
    ),
    **dict.fromkeys(
        launcher_paths(),
        ("is what keeps a running gahp at its version when the next one is deployed", "choose another path"),
    ),
}
_PROGRAMS = "belongs to HTCondor's programs, which must be of one version", "name another HTCondor source instead"
# Its file would be sourced by a name that blah_load_config.sh puts together wrongly. Source: HTCondor 23.9, 25.14.
_CONFIG_D = "is in a folder that makes blahp's scripts fail", "set keys of blah.config by `batch.settings`"


@dataclass(frozen=True)
class ExtraFile:
    """One file laid over a bundle.

    Attributes:
        path: in the bundle.
        content: taken as it is; no repair touches it.
        origin: where it comes from, for the manifest.
        mode: 0644 or 0755; None: that of the file it replaces, else 0755 for what starts with `#!`, 0644 for the rest.
    """

    path: str
    content: bytes
    origin: str
    mode: Optional[int] = None

    @property
    def is_elf(self) -> bool:
        """Whether it is a program or library."""
        return self.content[: len(ELF_MAGIC)] == ELF_MAGIC

    def final_mode(self, batch_system: str) -> int:
        """The mode it will have in a bundle of this batch system."""
        if self.mode is not None:
            return self.mode
        if self.path in executed_paths(batch_system):
            return EXECUTABLE
        return EXECUTABLE if self.content[:2] == b"#!" else PLAIN


def refusal(file: ExtraFile, batch_system: str) -> Optional[tuple[str, str]]:
    """Say why a file cannot be laid over a bundle, and what to do; None when it can."""
    path = file.path
    if len(path) > MAX_EXTRA_PATH_CHARS or not is_safe_path(path):
        return (
            "is not a plain relative path inside the bundle",
            "letters, digits, _ . + - and /; no .. and no dot first",
        )
    if path in _KEPT:
        return _KEPT[path]
    name = path.rpartition("/")[2]
    if path in map(program_path, ("blahpd", "condor_ft-gahp")) or name.startswith(HTCONDOR_SONAMES):
        return _PROGRAMS
    if path.startswith(f"{BLAH_CONFIG_PATH}.d/"):
        return _CONFIG_D
    if path in ("bin", "etc", "lib", "libexec", f"libexec/{batch_system}"):
        return "is a folder of the bundle", "name a file in it"
    if len(file.content) > MAX_EXTRA_FILE_BYTES:
        return f"is larger than {MAX_EXTRA_FILE_BYTES} bytes", "put large files on the site's own storage"
    if file.mode not in (None, PLAIN, EXECUTABLE):
        return f"has mode {file.mode:04o}", "0644 or 0755"
    if file.mode == PLAIN and path in executed_paths(batch_system):
        return "is run by blahp and is not executable", "give it mode 0755 (chmod +x)"
    return None if file.is_elf else _bad_line_end(file.content)


def _bad_line_end(content: bytes) -> Optional[tuple[str, str]]:
    place = content.find(b"\r\n")
    if place < 0 or b"\0" in content:
        return None
    line = content.count(b"\n", 0, place) + 1
    return f"has a line that ends with CR LF (line {line})", "save it with Unix line ends (dos2unix)"


def too_much(files: tuple[ExtraFile, ...]) -> Optional[tuple[str, str]]:
    """Say when there are too many files, or too large ones together; None when not."""
    if len(files) > MAX_EXTRA_FILES:
        return f"{len(files)} extra files, {MAX_EXTRA_FILES} are allowed", "remove some"
    size = sum(len(file.content) for file in files)
    if size > MAX_EXTRA_BYTES:
        return (
            f"extra files of {size} bytes, {MAX_EXTRA_BYTES} are allowed",
            "put large files on the site's own storage",
        )
    return None


def first_refusal(files: tuple[ExtraFile, ...], batch_system: str) -> Optional[tuple[str, str]]:
    """Say what is wrong with the files as a whole, or with the first bad one; None when nothing is."""
    for file in files:
        found = refusal(file, batch_system)
        if found is not None:
            return f"{file.origin}: {file.path} {found[0]}", found[1]
    return too_much(files)
