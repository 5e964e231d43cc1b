# SPDX-License-Identifier: Apache-2.0
"""The tar.gz that travels: regular files with name, content and mode, nothing else. Pure, same bytes each time."""

from __future__ import annotations

import functools
import io
import tarfile
import threading
from collections.abc import Sequence

from glideinwms_bosco.bundle.model import Bundle
from glideinwms_bosco.bundle.pack import compressed

KEPT_ARCHIVES = 4
"""A fleet's accounts mostly lack the same files; each archive takes some megabytes."""

_PACKING = threading.Lock()


class _Content:
    """A bundle that equals any other with its digest, which says what is in it."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def __hash__(self) -> int:
        return hash(self.bundle.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Content) and self.bundle.digest == other.bundle.digest


def pack_files(bundle: Bundle, paths: Sequence[str]) -> bytes:
    """Return a gzip-compressed tar archive of these files; directories are made while unpacking.

    The last few are kept, and threads pack one after the other: a plain archive takes as much memory as its bundle.
    """
    with _PACKING:
        return _packed(_Content(bundle), tuple(paths))


@functools.lru_cache(maxsize=KEPT_ARCHIVES)
def _packed(content: _Content, paths: tuple[str, ...]) -> bytes:
    files = content.bundle.files
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in paths:
            member = tarfile.TarInfo(path)
            member.size = len(files[path].content)
            member.mode = files[path].mode
            archive.addfile(member, io.BytesIO(files[path].content))
    return compressed(raw.getvalue())
