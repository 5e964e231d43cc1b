# SPDX-License-Identifier: Apache-2.0
"""What scripts/inspect.sh has told about an account, as a frozen value. Pure."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.remote.messages import MessageFormatError, Reply, one_line

_VERSION = re.compile(r"[0-9a-f]{1,128}")
_SUM = re.compile(r"([0-9a-f]{1,128}) ([0-9a-f]{64}) [ *](\S+)")
_MODE = re.compile(r"([0-9a-f]{1,128}) ([0-9a-f]{1,8}) (\S+)")
_TARGET = re.compile(r"([0-9a-f]{1,128}) (\S+) (.*)")
_LIBC = re.compile(r"\d{1,3}(\.\d{1,4}){1,2}")
_COUNT = re.compile(r"\d{1,18}")
_LINK = re.compile(r"versions/([0-9a-f]{64})")
_HELD = re.compile(r"(\d{1,10}) ([0-9a-f]{1,8}) (\.|versions|sandbox|log|versions/[0-9a-f]{1,128})")
_LOGIN = re.compile(r"(complete|reads|no-bash|ended \d{1,3})")
# sandbox holds pilots' credentials, log may quote them: nobody else may look in. The others are for reading.
_PRIVATE_MODE = 0o700
_PRIVATE_PLACES = ("sandbox", "log")
_WRITABLE_BY_OTHERS = 0o022


@dataclass(frozen=True)
class InstalledFile:
    """A regular file of an installed version: sha256 (hex) and permission bits."""

    sha256: str
    mode: int


@dataclass(frozen=True)
class OpenPlace:
    """A part of the install that others may write to (or, for sandbox and log, enter).

    Attributes:
        name: "." for bosco_dir, "versions", "sandbox", "log" or "versions/<digest>" for anything in a version.
        mode: permission bits found there.
    """

    name: str
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
        glite_target: what the link says, when it is one; unchanged, not for showing.
        versions: digest -> content.
        missing_tools, missing_commands: programs the deploy needs; batch commands a login shell does not find.
        missing_directories: of sandbox and log.
        login: what became of a login shell: "complete", "reads" (the profile takes the input), "no-bash", or
            "ended STATUS" when the profile did not come to its end.
        open_places: what others may write to, sorted by name; each once.
        foreign_places: (name as in OpenPlace, user id) of what belongs to another user, sorted.
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
    login: str
    open_places: tuple[OpenPlace, ...]
    foreign_places: tuple[tuple[str, int], ...]
    not_writable: Optional[str]
    free_kb: Optional[int]
    free_inodes: Optional[int]

    @property
    def current_digest(self) -> Optional[str]:
        """Return the digest `glite` points to, or None when it is no link of ours."""
        match = _LINK.fullmatch(self.glite_target)
        return match.group(1) if match and self.glite == "link" else None

    @property
    def glite_is_foreign(self) -> bool:
        """Tell whether `glite` was made by somebody else: a directory, a file, a link to anything but a version."""
        return self.glite != "none" and self.current_digest is None


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


def _holders(reply: Reply) -> tuple[tuple[OpenPlace, ...], tuple[tuple[str, int], ...]]:
    """Return what is open to others and what belongs to others."""
    account = int(_match(_COUNT, "UID", reply.only("UID")).group(0))
    open_modes: dict[str, int] = {}
    foreign: dict[str, int] = {}
    for value in reply.values("HELD"):
        uid, raw, name = _match(_HELD, "HELD", value).groups()
        mode = int(raw, 16)
        if int(uid) != account:
            foreign.setdefault(name, int(uid))
        bits = stat.S_IMODE(mode)
        if name in _PRIVATE_PLACES:
            is_open = bits & 0o777 != _PRIVATE_MODE
        else:
            # The bits of a symbolic link mean nothing.
            is_open = bool(bits & _WRITABLE_BY_OTHERS) and not stat.S_ISLNK(mode)
        if is_open:
            open_modes[name] = open_modes.get(name, 0) | bits
    return tuple(OpenPlace(*item) for item in sorted(open_modes.items())), tuple(sorted(foreign.items()))


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
    open_places, foreign_places = _holders(reply)
    return RemoteState(
        account=one_line(reply.only("ACCOUNT")),
        node=one_line(reply.only("NODE")),
        home=one_line(reply.only("HOME")),
        architecture=one_line(reply.only("ARCH")),
        libc=libc if _LIBC.fullmatch(libc) else None,
        glite=glite,
        glite_target=target,
        versions=_versions(reply),
        missing_tools=reply.values("NO-TOOL"),
        missing_commands=tuple(one_line(name) for name in reply.values("NO-COMMAND")),
        missing_directories=reply.values("NO-DIRECTORY"),
        login=_match(_LOGIN, "LOGIN", reply.only("LOGIN")).group(0),
        open_places=open_places,
        foreign_places=foreign_places,
        not_writable=one_line(not_writable[0]) if not_writable else None,
        free_kb=_optional_count(reply, "FREE-KB"),
        free_inodes=_optional_count(reply, "FREE-INODES"),
    )
