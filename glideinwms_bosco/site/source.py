# SPDX-License-Identifier: Apache-2.0
"""Where the HTCondor of a bundle comes from: an installed package or a release tarball with its sha256."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.errors import SiteError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PLAIN = re.compile(r"[^\x00-\x1f\x7f]+")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_SCHEMES = ("https", "file")


@dataclass(frozen=True)
class HTCondorSource:
    """One of: the root directory of an installed `condor` package, or a release tarball.

    Attributes:
        root: absolute path of the root file system the package is installed in ("/" on a factory).
        tarball: absolute path, `file://` or `https://` URL of a release tarball.
        sha256: 64 lower case hex digits, the digest of the tarball; mandatory with it, forbidden without.

    Raises:
        SiteError: not exactly one source, a digest that is missing or malformed, a relative path, another scheme.
    """

    root: Optional[str] = None
    tarball: Optional[str] = None
    sha256: Optional[str] = None

    def __post_init__(self) -> None:
        if (self.root is None) == (self.tarball is None):
            raise SiteError("HTCondor source: needs exactly one of root and tarball", "set one, remove the other")
        if self.root is not None:
            self._check_root(self.root)
        if self.tarball is not None:
            self._check_tarball(self.tarball)

    @property
    def place(self) -> str:
        """How messages name the source: the root, or the tarball's file name."""
        return self.root if self.root is not None else str(self.tarball).rpartition("/")[2]

    def _check_root(self, root: str) -> None:
        if not root.startswith("/") or not _PLAIN.fullmatch(root):
            raise SiteError(f"HTCondor source: root {root!r} is not an absolute path", 'use "/" on a factory')
        if self.sha256 is not None:
            raise SiteError("HTCondor source: sha256 belongs to a tarball, not to a root", "remove sha256")

    def _check_tarball(self, tarball: str) -> None:
        if not _PLAIN.fullmatch(tarball):
            raise SiteError("HTCondor source: tarball is empty or holds a control character", "give a path or a URL")
        url = _SCHEME.fullmatch(tarball)
        if url is None and not tarball.startswith("/"):
            raise SiteError(f"HTCondor source: tarball {tarball!r} is not an absolute path", "or give an https URL")
        if url is not None and url.group(1).lower() not in _SCHEMES:
            raise SiteError(f"HTCondor source: scheme of {tarball!r} is not allowed", "use https or file")
        # A name or password in a URL would end up in manifests and logs.
        if url is not None and "@" in url.group(2).split("/", 1)[0]:
            raise SiteError("HTCondor source: the tarball's URL holds a user name", "use a URL without credentials")
        if self.sha256 is None:
            raise SiteError("HTCondor source: tarball without sha256", "add the digest that the release page states")
        if not _SHA256.fullmatch(self.sha256):
            raise SiteError("HTCondor source: sha256 is not 64 lower case hex digits", "copy it from `sha256sum FILE`")
