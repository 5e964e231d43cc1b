# SPDX-License-Identifier: Apache-2.0
"""Read a SITECONF folder of the operator that is shipped as it is.

Links that stay in the folder stay links; others, such as a sibling site's on CVMFS, are replaced by what they lead to:
on a node their target may not be there. `local` is made anew. Files and folders whose names start with a dot stay here.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path, PurePosixPath
from typing import Optional
from xml.parsers import expat

from glideinwms_bosco.siteconf.model import CONFIG_NAME, LOCAL_NAME, Link, TreeFile
from glideinwms_bosco.siteconf.text_file import MAX_FILE_BYTES, read_bytes, refuse, text_of
from glideinwms_bosco.siteconf.xml_file import parse_xml

MAX_ENTRIES = 2_000
"""Files, folders and links of a tree; with a hundred siblings there are 400."""
MAX_BYTES = 8 * 1024 * 1024
"""Of all files; pilots bring them along."""
MAX_DEPTH = 8
"""Of folders in folders; SITE/SUBSITE/JobConfig are three."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,@=+-]{0,127}")
_FRONTIER_TAG = "frontier-connect"


def read_tree(folder: Path, site: str, subsite: str = "") -> dict[str, TreeFile]:
    """Read the whole folder.

    Args:
        folder: a SITECONF: it holds the sites' folders.
        site, subsite: whose configuration `local` names.

    Returns:
        path below the folder -> contents or link.

    Raises:
        SiteconfFileError: a file cannot be read, a link leads nowhere or in a circle, the tree is too large, or has no
            site-local-config.xml of the site.
    """
    walk = _Walk(folder)
    walk.enter(folder, PurePosixPath(), inside=True)
    own = PurePosixPath(site, subsite)
    config = folder / own / CONFIG_NAME
    if not config.is_file():
        refuse(str(config), 0, "is not there", f"tree is a folder that has {own / CONFIG_NAME}")
    walk.files[LOCAL_NAME] = Link(str(own))
    return walk.files


def cut_config(content: bytes, file: str) -> Optional[tuple[bytes, bytes]]:
    """Cut a site-local-config.xml behind its `<frontier-connect>` tag, so that what comes there is asked first.

    Returns:
        None when it has not exactly one such element, or an empty one without a closing tag.

    Raises:
        SiteconfFileError: it is no well-formed XML.
    """
    parse_xml(text_of(content, file), file)
    starts: list[int] = []
    parser = expat.ParserCreate("utf-8")

    def start(name: str, _attributes: object) -> None:
        if name == _FRONTIER_TAG:
            starts.append(parser.CurrentByteIndex)

    parser.StartElementHandler = start
    try:
        parser.Parse(content, True)
    except expat.ExpatError as err:
        refuse(file, err.lineno, "is no well-formed XML for WMCore's parser (expat)", "correct this line")
    if len(starts) != 1:
        return None
    # An attribute's value may hold a >.
    tag = re.compile(rb"""<[^>"']*(?:"[^"]*"[^>"']*|'[^']*'[^>"']*)*>""").match(content, starts[0])
    if tag is None or tag[0].endswith(b"/>"):
        return None
    return content[: tag.end()] + b"\n", content[tag.end() :]


class _Walk:
    """Collects the files of a tree, within the limits."""

    def __init__(self, folder: Path) -> None:
        self._top = folder
        self._real_top = os.path.realpath(folder)
        self._bytes_left = MAX_BYTES
        self._entries = 0
        self.files: dict[str, TreeFile] = {}

    def enter(self, folder: Path, relative: PurePosixPath, inside: bool) -> None:
        """Take all of a folder. `inside`: no link has led out of the tree on the way."""
        if len(relative.parts) > MAX_DEPTH:
            refuse(
                str(folder), 0, f"is more than {MAX_DEPTH} folders deep", "no reader looks there; is a link a circle?"
            )
        try:
            names = sorted(path.name for path in folder.iterdir())
        except OSError as err:
            refuse(str(folder), 0, f"cannot be read: {err.strerror}", "check the path and its permissions")
        for name in names:
            if name.startswith(".") or (not relative.parts and name == LOCAL_NAME):
                continue
            if not _NAME.fullmatch(name):
                refuse(str(folder / name), 0, "has a name that is no plain word", "rename or remove it")
            self._take(folder / name, relative / name, inside)

    def _take(self, path: Path, relative: PurePosixPath, inside: bool) -> None:
        # Folders count: outside, links may lead through the same ones again and again.
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            hint = "keep the sites that are referred to; is a link a circle?"
            refuse(str(self._top), 0, f"has more than {MAX_ENTRIES} files and folders", hint)
        try:
            found, is_link = path.stat(), path.is_symlink()
        except OSError as err:
            refuse(str(path), 0, f"leads to nothing: {err.strerror}", "correct the link, or remove it")
        target = self._target(path) if is_link and inside else None
        if target is not None:
            self.files[str(relative)] = Link(target)
        elif stat.S_ISDIR(found.st_mode):
            self.enter(path, relative, inside and not is_link)
        else:
            content = read_bytes(path, min(MAX_FILE_BYTES, self._bytes_left))
            self._bytes_left -= len(content)
            self.files[str(relative)] = content

    def _target(self, link: Path) -> Optional[str]:
        """Where a link leads, from its folder, if that is a path below the tree that is shipped."""
        real = os.path.realpath(link)
        inner = os.path.relpath(real, self._real_top)
        parts = PurePosixPath(inner).parts
        if parts[:1] == ("..",) or any(part.startswith(".") for part in parts) or parts[:1] == (LOCAL_NAME,):
            return None
        return os.path.relpath(real, os.path.realpath(link.parent))
