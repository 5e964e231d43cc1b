# SPDX-License-Identifier: Apache-2.0
"""Bundles on disk, named by all that makes them what they are, so that the next command does not build them again.

Only bundles of tarballs are kept: their content is known by its digest before anything is read. What is installed can
change at any time; to see that it has not takes as long as to build from it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Optional

from glideinwms_bosco.bundle.archive import load_bundle
from glideinwms_bosco.bundle.build import build_bundle
from glideinwms_bosco.bundle.model import Bundle
from glideinwms_bosco.bundle.request import BundleRequest
from glideinwms_bosco.errors import BundleError
from glideinwms_bosco.site.source import HTCondorSource
from glideinwms_bosco.state_folder import give_to_owner, make_folder

MAX_KEPT = 32
_SUFFIX = ".tar.gz"


class BundleStore:
    """Built bundles below one folder; it may be removed at any time.

    Args:
        folder: is made when it is missing.
        state_dir: the state folder that it lies in; when left out, the folder above it.
    """

    def __init__(self, folder: Path, state_dir: Optional[Path] = None) -> None:
        self._folder = folder
        self._state_dir = state_dir or folder.parent

    def get(self, source: HTCondorSource, request: BundleRequest) -> Bundle:
        """Return the bundle of a source, built unless it is here.

        Raises:
            BundleError: as build_bundle.
        """
        if source.sha256 is None:
            return build_bundle(source, request)
        path = self._folder / f"{_key(source, request)}{_SUFFIX}"
        # What is cut short or was changed is built again.
        with contextlib.suppress(BundleError):
            bundle = load_bundle(path)
            with contextlib.suppress(OSError):
                os.utime(path)
            return bundle
        bundle = build_bundle(source, request)
        # A folder that cannot be written, or a full disk, costs time and nothing else.
        with contextlib.suppress(OSError, BundleError):
            make_folder(self._folder, self._state_dir)
            bundle.write_archive(path)
            give_to_owner(path, self._state_dir)
            self._drop_oldest()
        return bundle

    def _drop_oldest(self) -> None:
        kept = sorted(self._folder.glob(f"*{_SUFFIX}"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[MAX_KEPT:]:
            path.unlink()


def _key(source: HTCondorSource, request: BundleRequest) -> str:
    """Digest of the source, the request and the code that would build it."""
    fields = asdict(request)
    for name, files in (("extra_files", request.extra_files), ("own_files", request.own_files)):
        fields[name] = [[file.path, file.origin, file.mode, hashlib.sha256(file.content).hexdigest()] for file in files]
    text = json.dumps([_code_digest(), source.place, source.sha256, fields], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


@functools.cache
def _code_digest() -> str:
    """Digest of this room: another release of ours may build another bundle from the same source."""
    room = Path(__file__).parent
    state = hashlib.sha256()
    for place in sorted(room.rglob("*")):
        if place.is_file() and "__pycache__" not in place.parts:
            content = place.read_bytes()
            state.update(f"{place.relative_to(room)} {len(content)}\n".encode())
            state.update(content)
    return state.hexdigest()
