# SPDX-License-Identifier: Apache-2.0
"""An HTCondor source as a tree of files, the same for an installed package and for a release tarball."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional, Protocol

from glideinwms_bosco.bundle.manifest import MAX_FILE_BYTES
from glideinwms_bosco.errors import SourceError

MAX_LINK_HOPS = 40  # as Linux's MAXSYMLINKS


@dataclass(frozen=True)
class SourceFile:
    """Content of one file, and the path it was found at, relative to the root of the source."""

    path: str
    content: bytes


class SourceTree(Protocol):
    """What build_bundle needs of a source.

    Attributes:
        label: how messages name the source.
        kind, place: first and last part of the manifest's label, around the version.
    """

    label: str
    kind: str
    place: str

    def find(self, candidates: Sequence[str]) -> Optional[SourceFile]:
        """Return the first candidate (relative path) that is a regular file, links followed inside the source."""


def follow(path: str, read_link: Callable[[str], Optional[str]], escape: Optional[SourceError] = None) -> str:
    """Resolve every symbolic link in a relative path against the root of the source.

    Args:
        path: relative to the root of the source.
        read_link: target of a link, None for anything else.
        escape: raised when a link leaves the root; None = the root is a root directory, "/.." is "/".

    Raises:
        SourceError: `escape`, or more than MAX_LINK_HOPS links.
    """
    done: list[str] = []
    pending = path.split("/")[::-1]
    hops = 0
    while pending:
        part = pending.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not done and escape is not None:
                raise escape
            del done[-1:]
            continue
        target = read_link("/".join([*done, part]))
        if target is None:
            done.append(part)
            continue
        hops += 1
        if hops > MAX_LINK_HOPS:
            raise SourceError(f"{path}: too many symbolic links", "the HTCondor source is damaged")
        if target.startswith("/"):
            if escape is not None:
                raise escape
            done = []
        pending += target.split("/")[::-1]
    return "/".join(done)


class InstalledTree:
    """An installed `condor` package below a root directory; absolute links are meant relative to that root."""

    kind = "installed HTCondor"

    def __init__(self, root: str) -> None:
        self._root = Path(root)
        self.place = f"at {root}"
        self.label = f"{self.kind} {self.place}"
        if not self._root.is_dir():
            raise SourceError(f"HTCondor source: {root} is not a directory", "correct the root of the HTCondor source")

    def find(self, candidates: Sequence[str]) -> Optional[SourceFile]:
        """See SourceTree.find.

        Raises:
            SourceError: a file cannot be read or is larger than MAX_FILE_BYTES.
        """
        for candidate in candidates:
            place = self._root / follow(candidate, self._read_link)
            try:
                status = place.stat()
            except OSError:
                continue
            if not stat.S_ISREG(status.st_mode):
                continue
            if status.st_size > MAX_FILE_BYTES:
                raise SourceError(f"{place} is larger than {MAX_FILE_BYTES} bytes", "this is no file of HTCondor")
            try:
                return SourceFile(candidate, place.read_bytes())
            except OSError as error:
                raise SourceError(f"cannot read {place}: {error.strerror}", "check its permissions") from error
        return None

    def _read_link(self, path: str) -> Optional[str]:
        place = self._root / path
        try:
            return str(place.readlink()) if place.is_symlink() else None
        except OSError:
            return None
