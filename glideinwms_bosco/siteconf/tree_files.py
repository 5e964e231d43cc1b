# SPDX-License-Identifier: Apache-2.0
"""Write the files of a SITECONF into a folder, all of them or none."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from glideinwms_bosco.errors import SiteconfError
from glideinwms_bosco.siteconf.model import Link, TreeFile

_FOLDER_MODE = 0o755
_FILE_MODE = 0o644


def write_tree(files: Mapping[str, TreeFile], folder: Path, force: bool = False) -> bool:
    """Make `folder` hold exactly these files; it comes into being by a rename.

    Args:
        files: relative path -> contents or link.
        force: replace a folder that holds something else.

    Returns:
        False when it held exactly this already.

    Raises:
        SiteconfError: it holds something else, or it cannot be written; nothing has changed.
    """
    if os.path.lexists(folder):
        if _holds(folder, files):
            return False
        if not force:
            raise SiteconfError(f"{folder}: exists, nothing was written", "use another folder, or --force")
    try:
        _replace(files, folder)
    except OSError as err:
        hint = "check that the folder above exists and is yours"
        raise SiteconfError(f"{folder}: cannot be written: {err.strerror}", hint) from None
    return True


def _replace(files: Mapping[str, TreeFile], folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.absolute().parent) as name:
        made, old = Path(name) / "made", Path(name) / "old"
        fill(files, made)
        if os.path.lexists(folder):
            folder.rename(old)
        try:
            made.rename(folder)
        except OSError:
            if os.path.lexists(old):
                old.rename(folder)
            raise
        if old.is_symlink() or old.is_file():
            old.unlink()


def fill(files: Mapping[str, TreeFile], folder: Path) -> None:
    """Write the files below a folder of one's own.

    Raises:
        OSError: one cannot be written; those before it are there.
    """
    _make(folder)
    for path, content in files.items():
        place = folder / path
        for parent in reversed(place.relative_to(folder).parents):
            _make(folder / parent)
        if isinstance(content, Link):
            place.symlink_to(content.target)
        else:
            with open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE), "wb") as stream:
                os.fchmod(stream.fileno(), _FILE_MODE)
                stream.write(content)


def _make(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir()
        folder.chmod(_FOLDER_MODE)


def _holds(folder: Path, files: Mapping[str, TreeFile]) -> bool:
    """Whether a folder holds these files and no others."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    left = dict(files)
    for here, folders, names in os.walk(folder):
        linked = [name for name in folders if (Path(here) / name).is_symlink()]
        for name in (*names, *linked):
            place = Path(here) / name
            content = left.pop(str(place.relative_to(folder)), None)
            if content is None or not _same(place, content):
                return False
    return not left


def _same(place: Path, content: TreeFile) -> bool:
    if isinstance(content, Link):
        return place.is_symlink() and str(place.readlink()) == content.target
    return not place.is_symlink() and place.stat().st_size == len(content) and place.read_bytes() == content
