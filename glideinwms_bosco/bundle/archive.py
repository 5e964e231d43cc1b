# SPDX-License-Identifier: Apache-2.0
"""A bundle archive read back: only what Bundle.write_archive itself would have written is taken."""

from __future__ import annotations

import io
import tarfile
import zlib
from pathlib import Path

from glideinwms_bosco.bundle.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, BundleFile, Manifest
from glideinwms_bosco.bundle.model import Bundle
from glideinwms_bosco.bundle.pack import GZIP_FRAME, tar_bytes
from glideinwms_bosco.errors import BundleError

MAX_ARCHIVE_BYTES = 256 << 20
MAX_UNPACKED_BYTES = 512 << 20
_HINT = "build the bundle again"


def load_bundle(path: Path) -> Bundle:
    """Read an archive and verify every byte of it.

    Nothing is trusted: paths, types, sizes and digests are checked, and the tar stream must be the one that
    write_archive makes, so that members behind the last one, odd owners or other tar dialects are refused too.

    Raises:
        BundleError: the file cannot be read or is anything but an intact bundle.
    """
    try:
        with path.open("rb") as stream:
            packed = stream.read(MAX_ARCHIVE_BYTES + 1)
    except OSError as error:
        raise BundleError(f"cannot read bundle {path}: {error.strerror}", _HINT) from error
    try:
        raw = _unpack(packed)
        manifest, members = _members(raw)
        files: dict[str, BundleFile] = {}
        links: dict[str, str] = {}
        origins = {entry.path: entry.origin for entry in manifest.files}
        for info, content in members:
            if info.issym():
                links[info.name] = info.linkname
            elif info.name in origins:
                files[info.name] = BundleFile(content, info.mode, origins[info.name])
            else:
                raise BundleError(f"member {info.name!r} is not in the manifest", _HINT)
        bundle = Bundle(manifest, files, links)
        if tar_bytes(manifest, files, links) != raw:
            raise BundleError("the archive is not in the form it was written in", _HINT)
    except BundleError as error:
        raise BundleError(f"{path}: {error.message}", error.hint) from error
    return bundle


def _unpack(packed: bytes) -> bytes:
    if len(packed) > MAX_ARCHIVE_BYTES:
        raise BundleError(f"larger than {MAX_ARCHIVE_BYTES} bytes", _HINT)
    unpacker = zlib.decompressobj(GZIP_FRAME)
    try:
        raw = unpacker.decompress(packed, MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise BundleError("not a gzip file", _HINT) from error
    if unpacker.unconsumed_tail:
        raise BundleError(f"unpacks to more than {MAX_UNPACKED_BYTES} bytes", _HINT)
    if not unpacker.eof or unpacker.unused_data:
        raise BundleError("cut short, or followed by other data", _HINT)
    return raw


def _members(raw: bytes) -> tuple[Manifest, list[tuple[tarfile.TarInfo, bytes]]]:
    members: list[tuple[tarfile.TarInfo, bytes]] = []
    try:
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as tar:
            for info in tar:
                if info.issym():
                    members.append((info, b""))
                    continue
                stream = tar.extractfile(info) if info.isreg() else None
                if stream is None:
                    raise BundleError(f"member {info.name!r} is neither a file nor a link", _HINT)
                members.append((info, stream.read()))
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise BundleError("not a tar archive", _HINT) from error
    if not members or members[0][0].name != MANIFEST_NAME or members[0][0].size > MAX_MANIFEST_BYTES:
        raise BundleError(f"the first member is not {MANIFEST_NAME}", _HINT)
    try:
        text = members[0][1].decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError("the manifest is not text", _HINT) from error
    return Manifest.from_json(text), members[1:]
