# SPDX-License-Identifier: Apache-2.0
"""A bundle in memory: files and links that are exactly what its manifest says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from glideinwms_bosco.bundle.manifest import BundleFile, Manifest
from glideinwms_bosco.bundle.pack import tar_bytes, write_packed
from glideinwms_bosco.errors import BundleError


@dataclass(frozen=True)
class Bundle:
    """A complete bundle; paths are relative to versions/<digest>/.

    Attributes:
        manifest: checked against files and links on construction.
        files: dict path -> BundleFile.
        links: dict path -> target, a name in the same directory.

    Raises:
        BundleError: a file or link differs from the manifest.
    """

    manifest: Manifest
    files: Mapping[str, BundleFile]
    links: Mapping[str, str]

    def __post_init__(self) -> None:
        for entry in self.manifest.files:
            if entry.path not in self.files or self.files[entry.path].entry(entry.path) != entry:
                raise BundleError(f"bundle: {entry.path} is not what the manifest says", "build the bundle again")
        if len(self.files) != len(self.manifest.files):
            raise BundleError("bundle: a file is not in the manifest", "build the bundle again")
        if {entry.path: entry.target for entry in self.manifest.links} != dict(self.links):
            raise BundleError("bundle: links are not what the manifest says", "build the bundle again")

    @property
    def digest(self) -> str:
        """sha256 (hex) of the tree; the name of its version directory."""
        return self.manifest.digest

    def write_archive(self, path: Path) -> None:
        """Write the archive atomically; same bundle, same bytes.

        Raises:
            BundleError: the file cannot be written.
        """
        write_packed(tar_bytes(self.manifest, self.files, self.links), path)
