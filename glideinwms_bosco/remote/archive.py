# SPDX-License-Identifier: Apache-2.0
"""The tar.gz that travels: regular files with name, content and mode, nothing else. Pure, same bytes each time."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence

from glideinwms_bosco.bundle.model import Bundle
from glideinwms_bosco.bundle.pack import compressed


def pack_files(bundle: Bundle, paths: Sequence[str]) -> bytes:
    """Return a gzip-compressed tar archive of these files; directories are made while unpacking."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in paths:
            member = tarfile.TarInfo(path)
            member.size = len(bundle.files[path].content)
            member.mode = bundle.files[path].mode
            archive.addfile(member, io.BytesIO(bundle.files[path].content))
    return compressed(raw.getvalue())
