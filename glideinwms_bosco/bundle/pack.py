# SPDX-License-Identifier: Apache-2.0
"""Files, links and manifest as one reproducible tar.gz."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from glideinwms_bosco.atomic import write_atomic
from glideinwms_bosco.bundle.manifest import MANIFEST_NAME, BundleFile, Manifest
from glideinwms_bosco.errors import BundleError

# Of 9: what the last levels save of 3.4 MB (0.5 %) is less than the second they take.
GZIP_LEVEL = 6
GZIP_FRAME = 31  # zlib window bits for a gzip frame; its header then holds no time and no name


def tar_bytes(manifest: Manifest, files: Mapping[str, BundleFile], links: Mapping[str, str]) -> bytes:
    """Return the tar stream: the manifest first, then every path in order, without times, owners or directories."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        _add(tar, MANIFEST_NAME, manifest.to_json().encode("utf-8"), 0o644)
        for path in sorted([*files, *links]):
            if path in links:
                info = tarfile.TarInfo(path)
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, links[path], 0o777
                tar.addfile(info)
            else:
                _add(tar, path, files[path].content, files[path].mode)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, path: str, content: bytes, mode: int) -> None:
    info = tarfile.TarInfo(path)  # mtime, uid and gid are 0, names empty
    info.size, info.mode = len(content), mode
    tar.addfile(info, io.BytesIO(content))


def compressed(tar: bytes) -> bytes:
    """Return a tar stream in a gzip frame; same stream, same bytes."""
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP_FRAME)
    return packer.compress(tar) + packer.flush()


def write_packed(tar: bytes, path: Path) -> None:
    """Compress a tar stream and write it to `path` atomically, mode 0644.

    Raises:
        BundleError: the file cannot be written.
    """
    try:
        write_atomic(path, compressed(tar))
    except OSError as error:
        raise BundleError(f"cannot write {path}: {error.strerror}", "check space and permissions") from error
