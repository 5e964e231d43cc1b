# SPDX-License-Identifier: Apache-2.0
"""Files of pilots on the factory: written whole under a name that holds their digest, kept while an entry names them.

reconfig copies these files some seconds after it has read the XML. So a file never changes under its name, is there
before the XML that names it, and stays for a day after the last XML that did.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Optional

from glideinwms_bosco.atomic import write_atomic
from glideinwms_bosco.errors import PilotError
from glideinwms_bosco.pilot.plan import UNTAR, PilotFile
from glideinwms_bosco.pilot.tree import MAX_TREE_BYTES, gunzipped
from glideinwms_bosco.state_folder import give_to_owner, make_folder, write_hint

FOLDER = "pilot"
"""Below the state folder."""
FILE_MODE = 0o644
KEPT_UNNAMED_S = 24 * 3600
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.]*-[0-9a-f]{32}(\.tar\.gz)?")
# What tar adds: headers and padding of each member.
_MAX_STREAM_BYTES = 2 * MAX_TREE_BYTES


def store(files: Iterable[PilotFile], folder: Path) -> tuple[Path, ...]:
    """Write what is not there yet, and what is there and damaged; give what was written.

    Args:
        folder: in the state folder, and made when it is missing.

    Raises:
        PilotError: the folder or a file cannot be written.
    """
    written = []
    try:
        for file in files:
            make_folder(folder, folder.parent)
            path = folder / file.stored_name
            if is_stored(file, folder):
                os.utime(path)
                continue
            if path.is_symlink():
                # What it leads to may change at any time.
                path.unlink()
            if write_atomic(path, file.stored_content(), FILE_MODE):
                give_to_owner(path, folder.parent)
                written.append(path)
    except OSError as err:
        hint = write_hint(err, folder.parent, "check space and permissions; the factory's user must own it")
        raise PilotError(f"{err.filename or folder}: cannot be written: {err.strerror}", hint) from None
    return tuple(written)


def is_stored(file: PilotFile, folder: Path) -> bool:
    """Tell whether the file is there, intact.

    Raises:
        OSError: it is there and cannot be read.
    """
    path = folder / file.stored_name
    if not path.is_file() or path.is_symlink():
        return False
    content = path.read_bytes()
    # Another zlib packs other bytes of the same stream, and pilots take either.
    return (gunzipped(content, _MAX_STREAM_BYTES) if file.kind == UNTAR else content) == file.content


def drop_unnamed(folder: Path, configuration: Collection[bytes], now_s: Optional[float] = None) -> tuple[Path, ...]:
    """Delete files of ours that no XML of the configuration has named for a day; give what was deleted.

    Args:
        configuration: content of every XML file that reconfig would read.
        now_s: seconds since 1970; the clock's when left out.

    Raises:
        PilotError: a file cannot be deleted.
    """
    now_s = time.time() if now_s is None else now_s
    dropped = []
    try:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if not _NAME.fullmatch(path.name):
                continue
            if any(path.name.encode() in text for text in configuration):
                os.utime(path, (now_s, now_s))
            elif now_s - path.lstat().st_mtime > KEPT_UNNAMED_S:
                path.unlink()
                dropped.append(path)
    except OSError as err:
        raise PilotError(f"{err.filename or folder}: cannot be cleaned up: {err.strerror}", "is it yours?") from None
    return tuple(dropped)
