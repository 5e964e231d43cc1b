# SPDX-License-Identifier: Apache-2.0
"""Decide what a deploy has to do: the bundle against what the account has. Pure.

Also the checks that need no try: platform, tools, space.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Optional

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment

from glideinwms_bosco.bundle.manifest import FileEntry
from glideinwms_bosco.bundle.model import Bundle
from glideinwms_bosco.errors import PlatformError, RemoteError, RemoteStorageError
from glideinwms_bosco.remote.inspection import InstalledFile, InstalledVersion, RemoteState
from glideinwms_bosco.remote.program import PROFILE_FILES

# Over and above the files themselves: directories, lists of the staging directory, block rounding.
SPARE_KB = 1024
SPARE_INODES = 32
_KB_PER_FILE_ROUNDING = 4
HTCONDOR_VERSION = "htcondor"
"""Name of the `info` entry by which an installed version tells its HTCondor."""
SUMS, ENTRIES = "manifest.sha256sums", "manifest.entries"
RECORD_FILES = (SUMS, ENTRIES)
"""What a version records about itself; see scripts/tree.sh."""
# What timeout(1) ends with: GNU's own status, and that of the TERM it has sent (busybox).
_EXPIRED = ("ended 124", "ended 143")
_PART = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9_.][A-Za-z0-9_.+-]*"
_BOSCO_DIR = re.compile(rf"{_PART}(?:/{_PART})*")
_GLIBC = re.compile(r"\d{1,3}(?:\.\d{1,4}){1,2}")
_INTERPRETER = re.compile(r"/[A-Za-z0-9_.+/-]+")


@dataclass(frozen=True)
class Entry:
    """One line for scripts/install.sh; `operation` is one of those listed there."""

    operation: str
    path: str
    mode: Optional[int] = None
    sha256: str = "-"
    source: str = "-"

    def __str__(self) -> str:
        mode = "-" if self.mode is None else f"{self.mode:o}"
        return f"{self.operation} {mode} {self.sha256} {self.source} {self.path}"


@dataclass(frozen=True)
class Plan:
    """What to do.

    Attributes:
        action: "unchanged", "switched", "repaired" or "installed".
        entries: for scripts/install.sh; empty when the version is complete on the remote.
        send: paths that must travel, sorted.
    """

    action: str
    entries: tuple[Entry, ...]
    send: tuple[str, ...]


def check_bosco_dir(bundle: Bundle) -> None:
    """Refuse a folder that is not plainly below HOME; all other names were checked when the bundle was made.

    Raises:
        RemoteError: an absolute path, `..`, or characters that need quoting.
    """
    if not _BOSCO_DIR.fullmatch(bundle.manifest.bosco_dir):
        raise RemoteError(f"bosco_dir of the bundle cannot be used: {bundle.manifest.bosco_dir[:80]!r}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def check_platform(bundle: Bundle, state: RemoteState, where: str) -> None:
    """Refuse a machine that cannot run the bundle.

    Raises:
        PlatformError: architecture or libc do not fit, or a program that the deploy needs is missing.
    """
    manifest = bundle.manifest
    if state.missing_tools:
        raise PlatformError(f"{where}: {', '.join(state.missing_tools)} not found", "ask the site to install them")
    if state.architecture != manifest.architecture:
        raise PlatformError(
            f"{where}: the machine is {state.architecture}, the bundle is for {manifest.architecture}",
            f"build a bundle from HTCondor for {state.architecture}",
        )
    if not _GLIBC.fullmatch(manifest.glibc_min):
        raise PlatformError(f"{where}: the bundle says 'glibc {manifest.glibc_min[:20]}': build it again")
    if state.libc is None:
        raise PlatformError(f"{where}: no glibc found there, the bundle needs glibc {manifest.glibc_min} or newer")
    if _numbers(state.libc) < _numbers(manifest.glibc_min):
        raise PlatformError(
            f"{where}: glibc {state.libc} there is older than {manifest.glibc_min}, which the bundle needs",
            "build the bundle from an HTCondor release for the login node's operating system",
        )


def check_login_shell(state: RemoteState, profile_limit_s: int, where: str) -> None:
    """Refuse an account whose login profile would keep every pilot from starting.

    Source: remote_gahp of HTCondor 23.9 runs `/bin/bash -l -c '... blahpd'` and talks to it over standard input.

    Args:
        profile_limit_s: seconds after which scripts/inspect.sh took the profile for hanging.

    Raises:
        RemoteError: the profile hangs, ends the shell or takes the input; or there is no bash.
    """
    if state.login == "complete":
        return
    if state.login == "no-bash":
        raise RemoteError(
            f"{where}: there is no /bin/bash, so no pilot can start (remote_gahp needs it)",
            "ask the site to install it",
        )
    if state.login == "reads":
        what = "reads standard input, which is meant for the pilots' requests"
    elif state.login in _EXPIRED:
        what = f"hangs (> {profile_limit_s} s)"
    else:
        what = f"ends the shell (status {state.login.split()[1]})"
    raise RemoteError(
        f"{where}: the login profile {what}, so no pilot can start there (remote_gahp runs 'bash -l -c')",
        f"look into {PROFILE_FILES} of that account and try there: bash -l -c 'echo works'",
    )


def check_owners(bundle: Bundle, state: RemoteState, where: str) -> None:
    """Refuse an install of which a part belongs to another user, who could put in anything at any time.

    Raises:
        RemoteError: with the first such place.
    """
    for name, uid in state.foreign_places:
        raise RemoteError(
            f"{where}: {place_path(bundle, state, name)} belongs to user id {uid}, not to {state.account}; "
            "that user could replace what pilots run",
            "move it away, or have its owner changed, then run the same command again",
        )


def place_path(bundle: Bundle, state: RemoteState, name: str) -> str:
    """Return the full path of a place that an inspection names, for messages."""
    top = f"{state.home}/{bundle.manifest.bosco_dir}"
    return top if name == "." else f"{top}/{name}"


def check_space(bundle: Bundle, plan: Plan, state: RemoteState, where: str) -> None:
    """Refuse when the files would not fit. Quotas do not show here; they are met while writing.

    Raises:
        RemoteStorageError: not writable, too few kilobytes or inodes.
    """
    place = f"{where}: {state.home}/{bundle.manifest.bosco_dir}"
    if state.not_writable is not None:
        raise RemoteStorageError(f"{place}: {state.not_writable} is not writable (read-only file system, or its mode)")
    sizes = {file.path: file.size for file in bundle.manifest.files}
    new = [sizes[entry.path] for entry in plan.entries if entry.operation in ("send", "copy")]
    need_kb = SPARE_KB + sum(size // 1024 + _KB_PER_FILE_ROUNDING for size in new) if new else 0
    need_inodes = SPARE_INODES + len(new) if new else 0
    if state.free_kb is not None and state.free_kb < need_kb:
        raise RemoteStorageError(f"{place}: {state.free_kb} kB free, {need_kb} kB needed", "free some space there")
    if state.free_inodes is not None and state.free_inodes < need_inodes:
        raise RemoteStorageError(
            f"{place}: {state.free_inodes} inodes free, {need_inodes} needed", "delete some files there"
        )


def dynamic_linker(content: bytes) -> Optional[str]:
    """Return the dynamic linker an ELF program names (PT_INTERP), or None for anything else."""
    if content[:4] != b"\x7fELF":
        return None
    try:
        for segment in ELFFile(io.BytesIO(content)).iter_segments():
            if isinstance(segment, InterpSegment):
                name = str(segment.get_interp_name())
                return name if _INTERPRETER.fullmatch(name) else None
    except (ELFError, ValueError, KeyError, IndexError):
        return None
    return None


def _is_right(file: FileEntry, version: Optional[InstalledVersion]) -> bool:
    return version is not None and version.files.get(file.path) == InstalledFile(file.sha256, file.mode)


def _file_entries(bundle: Bundle, state: RemoteState) -> Iterator[Entry]:
    target = state.versions.get(bundle.manifest.digest)
    found: dict[str, str] = {}
    for name in sorted(state.versions):
        for path, there in state.versions[name].files.items():
            found.setdefault(there.sha256, f"{name}/{path}")
    for file in bundle.manifest.files:
        if _is_right(file, target):
            yield Entry("keep", file.path, file.mode, file.sha256)
        elif file.sha256 in found:
            yield Entry("copy", file.path, file.mode, file.sha256, found[file.sha256])
        else:
            yield Entry("send", file.path, file.mode, file.sha256)
    for path, link in sorted(bundle.links.items()):
        right = target is not None and target.links.get(path) == link
        yield Entry("there" if right else "link", path, source=link)


def _told(bundle: Bundle) -> Iterator[Entry]:
    """What scripts/install.sh checks and records about a version it builds."""
    for path, file in sorted(bundle.files.items()):
        linker = dynamic_linker(file.content)
        if linker is not None:
            yield Entry("exec", path, source=linker)
    yield Entry("info", HTCONDOR_VERSION, source=bundle.manifest.htcondor_version)


def recorded(entries: Iterable[Entry]) -> dict[str, bytes]:
    """The record that scripts/install.sh writes for these entries: dict name of the file -> content.

    Without it, or with another one, a version can be neither verified nor rolled back to.
    """
    sums, lines = [], []
    for entry in entries:
        if entry.operation in ("send", "copy", "keep"):
            sums.append(f"{entry.sha256}  {entry.path}\n")
            lines.append(f"{replace(entry, operation='file', source='-')}\n")
        else:
            operation = "link" if entry.operation == "there" else entry.operation
            lines.append(f"{replace(entry, operation=operation)}\n")
    return {SUMS: "".join(sums).encode(), ENTRIES: "".join(lines).encode()}


def _has_record(version: InstalledVersion, entries: Iterable[Entry]) -> bool:
    for name, content in recorded(entries).items():
        found = version.files.get(name)
        if found is None or found.sha256 != hashlib.sha256(content).hexdigest():
            return False
    return True


def make_plan(bundle: Bundle, state: RemoteState) -> Plan:
    """Compare the bundle with the account and say what has to be done."""
    digest = bundle.manifest.digest
    entries = tuple(_file_entries(bundle, state))
    complete = digest in state.versions and all(entry.operation in ("keep", "there") for entry in entries)
    if complete and not _has_record(state.versions[digest], (*entries, *_told(bundle))):
        return Plan("repaired", (*entries, *_told(bundle)), ())
    if complete:
        action = "unchanged" if state.current_digest == digest else "switched"
        if action == "unchanged" and (state.missing_directories or state.open_places):
            action = "repaired"
        if not any(place.name not in ("sandbox", "log") for place in state.open_places):
            return Plan(action, (), ())
        # Whoever could write there may have done so after the look: closed first, the files are verified once more.
        return Plan(action, (*entries, *_told(bundle)), ())
    send = tuple(entry.path for entry in entries if entry.operation == "send")
    action = "repaired" if digest in state.versions else "installed"
    return Plan(action, (*entries, *_told(bundle)), send)
