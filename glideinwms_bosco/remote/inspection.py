# SPDX-License-Identifier: Apache-2.0
"""What scripts/inspect.sh has told about an account, as a frozen value. Pure."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.remote.messages import MessageFormatError, Reply

_VERSION = re.compile(r"[0-9a-f]{1,128}")
_SUM = re.compile(r"([0-9a-f]{1,128}) ([0-9a-f]{64}) [ *](\S+)")
_MODE = re.compile(r"([0-9a-f]{1,128}) ([0-9a-f]{1,8}) (\S+)")
_TARGET = re.compile(r"([0-9a-f]{1,128}) (\S+) (.*)")
_LIBC = re.compile(r"\d{1,3}(\.\d{1,4}){1,2}")
_COUNT = re.compile(r"\d{1,18}")
_LINK = re.compile(r"versions/([0-9a-f]{1,128})")


@dataclass(frozen=True)
class InstalledFile:
    """A regular file of an installed version: sha256 (hex) and permission bits."""

    sha256: str
    mode: int


@dataclass(frozen=True)
class InstalledVersion:
    """What one version holds of the paths that were asked for (path -> file, path -> link target)."""

    files: Mapping[str, InstalledFile]
    links: Mapping[str, str]


@dataclass(frozen=True)
class RemoteState:
    """An account on a login node before a deploy.

    Attributes:
        account, node, home: user name, host name and home directory there.
        architecture: as `uname -m` says.
        libc: version of glibc, or None when the remote has another libc or does not tell.
        glite: "none", "link", "directory" or "other".
        glite_target: what the link says, when it is one.
        versions: digest -> content.
        missing_tools, missing_commands: programs the deploy needs; batch commands a login shell does not find.
        missing_directories: of sandbox and log.
        not_writable: the directory that cannot be written to, or None.
        free_kb, free_inodes: of the file system the files go to; None when it does not tell.
    """

    account: str
    node: str
    home: str
    architecture: str
    libc: Optional[str]
    glite: str
    glite_target: str
    versions: Mapping[str, InstalledVersion]
    missing_tools: tuple[str, ...]
    missing_commands: tuple[str, ...]
    missing_directories: tuple[str, ...]
    not_writable: Optional[str]
    free_kb: Optional[int]
    free_inodes: Optional[int]

    @property
    def current_digest(self) -> Optional[str]:
        """Return the digest `glite` points to, or None when it is no link of ours."""
        match = _LINK.fullmatch(self.glite_target)
        return match.group(1) if match and self.glite == "link" else None


def _match(pattern: re.Pattern[str], key: str, value: str) -> re.Match[str]:
    found = pattern.fullmatch(value)
    if found is None:
        raise MessageFormatError(f"unexpected value of {key}: {value[:80]!r}")
    return found


def _optional_count(reply: Reply, key: str) -> Optional[int]:
    values = reply.values(key)
    return int(_match(_COUNT, key, values[0]).group(0)) if values else None


def _versions(reply: Reply) -> dict[str, InstalledVersion]:
    modes: dict[tuple[str, str], int] = {}
    for value in reply.values("MODE"):
        version, raw, path = _match(_MODE, "MODE", value).groups()
        modes[version, path] = int(raw, 16)
    names = [_match(_VERSION, "VERSION", value).group(0) for value in reply.values("VERSION")]
    files: dict[str, dict[str, InstalledFile]] = {name: {} for name in names}
    links: dict[str, dict[str, str]] = {name: {} for name in names}
    for value in reply.values("SUM"):
        version, sha256, path = _match(_SUM, "SUM", value).groups()
        mode = modes.get((version, path), 0)
        # sha256sum follows links; only what is a regular file itself counts.
        if version in files and stat.S_ISREG(mode):
            files[version][path] = InstalledFile(sha256, stat.S_IMODE(mode))
    for value in reply.values("TARGET"):
        version, path, target = _match(_TARGET, "TARGET", value).groups()
        if version in links:
            links[version][path] = target
    return {name: InstalledVersion(files[name], links[name]) for name in names}


def parse_state(reply: Reply) -> RemoteState:
    """Read the answer of scripts/inspect.sh.

    Raises:
        MessageFormatError: when a line is missing, doubled or of another form.
    """
    glite, _, target = reply.only("GLITE").partition(" ")
    if glite not in ("none", "link", "directory", "other"):
        raise MessageFormatError(f"unexpected value of GLITE: {glite[:80]!r}")
    libc = reply.only("LIBC")
    not_writable = reply.values("NOT-WRITABLE")
    return RemoteState(
        account=reply.only("ACCOUNT"),
        node=reply.only("NODE"),
        home=reply.only("HOME"),
        architecture=reply.only("ARCH"),
        libc=libc if _LIBC.fullmatch(libc) else None,
        glite=glite,
        glite_target=target,
        versions=_versions(reply),
        missing_tools=reply.values("NO-TOOL"),
        missing_commands=reply.values("NO-COMMAND"),
        missing_directories=reply.values("NO-DIRECTORY"),
        not_writable=not_writable[0] if not_writable else None,
        free_kb=_optional_count(reply, "FREE-KB"),
        free_inodes=_optional_count(reply, "FREE-INODES"),
    )
