# SPDX-License-Identifier: Apache-2.0
"""One file out of a pilot script and the libraries it names, so that on the node it looks for no other file of ours.

A line `# gwms-bosco-include: lib/x.sh lib/y.sh` is replaced by these libraries, in that order. A library may name
others in the same way; each comes once, where it is first named. Same sources, same bytes.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from glideinwms_bosco.errors import PilotError

MAX_SOURCE_BYTES = 256 * 1024
"""Of one script or library; the longest is a tenth of that."""
MAX_SOURCES = 200
_INCLUDE = re.compile(r"^# gwms-bosco-include:(?P<names>[^\n]*)\n", re.MULTILINE)
_LIBRARY = re.compile(r"lib/[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SHEBANG = re.compile(r"\A#![^\n]*\n")
_CALL = b' "$@"\n'
_WORD = re.compile(r"[A-Za-z0-9_./@=-]+")
_HINT = "install the package again"
_PACKAGE = Path(__file__).resolve().parents[1]
_FOLDER = "validation_scripts"


def default_scripts_dir(package: Path = _PACKAGE) -> Path:
    """Where the scripts lie: beside the package in a checkout, else in the share folder of its installation.

    pip installs below a prefix that need not be the interpreter's (`--user`, Debian's /usr/local), so it is looked for
    above the package.
    """
    share = Path("share", "gwms-bosco", _FOLDER)
    candidates = [package.parent / _FOLDER, *(folder / share for folder in package.parents)]
    return next((folder for folder in candidates if folder.is_dir()), Path(sys.prefix) / share)


def read_sources(folder: Path) -> Mapping[str, str]:
    """Read all scripts (`cvmfs_setup`) and libraries (`lib/x.sh`) of a folder; other folders in it are not looked at.

    Raises:
        PilotError: the folder or a file in it cannot be read, is too large or is no UTF-8 text.
    """
    found: dict[str, str] = {}
    for path in _files(folder):
        if len(found) == MAX_SOURCES:
            raise PilotError(f"{folder}: holds more than {MAX_SOURCES} files", "name the folder of the pilot scripts")
        found[str(path.relative_to(folder))] = _text(path)
    return found


def pack_script(name: str, sources: Mapping[str, str]) -> bytes:
    """Put the libraries that a script names into it.

    Raises:
        PilotError: the script or a library is not there, or an include line cannot be read.
    """
    if name not in sources:
        raise PilotError(f"there is no pilot script {name}", _HINT)
    return _expanded(name, sources, {name}).encode("utf-8")


def with_words(packed: bytes, words: Sequence[str]) -> bytes:
    """Have a packed script start with words of ours before those of its command line.

    Args:
        words: of letters, digits and what else no shell reads.

    Raises:
        PilotError: its last line is not the call that all our scripts end with.
    """
    head, call, rest = packed.rpartition(_CALL)
    if rest or not call or any(not _WORD.fullmatch(word) for word in words):
        raise PilotError("the words cannot be put into this script", _HINT)
    return head + b"".join(f" {word}".encode() for word in words) + call


def _expanded(name: str, sources: Mapping[str, str], seen: set[str]) -> str:
    def library(named: str) -> str:
        if not _LIBRARY.fullmatch(named) or named not in sources:
            raise PilotError(f"{name} includes {named!r}, and there is no such library", _HINT)
        if named in seen:
            return ""
        seen.add(named)
        return _SHEBANG.sub("", _expanded(named, sources, seen))

    def libraries(found: re.Match[str]) -> str:
        names = found["names"].split()
        if not names:
            raise PilotError(f"{name} has an include line without a name", _HINT)
        return "".join(library(named) for named in names)

    text = sources[name]
    return _INCLUDE.sub(libraries, text if text.endswith("\n") else text + "\n")


def _files(folder: Path) -> Iterator[Path]:
    try:
        for part in (folder, folder / "lib"):
            if part == folder or part.is_dir():
                yield from sorted(path for path in part.iterdir() if path.name[0] != "." and not path.is_dir())
    except OSError as err:
        raise PilotError(f"{err.filename}: cannot be read: {err.strerror}", _HINT) from None


def _text(path: Path) -> str:
    try:
        # Without O_NONBLOCK opening a pipe waits for its writer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise PilotError(f"{path}: is not a regular file", _HINT)
            raw = stream.read(MAX_SOURCE_BYTES + 1)
    except OSError as err:
        raise PilotError(f"{path}: cannot be read: {err.strerror}", _HINT) from None
    if len(raw) > MAX_SOURCE_BYTES:
        raise PilotError(f"{path}: is larger than {MAX_SOURCE_BYTES} bytes", _HINT)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise PilotError(f"{path}: is not UTF-8 text", _HINT) from None
    if "\r" in text:
        raise PilotError(f"{path}: has CR LF line ends, which a shell does not read", _HINT)
    return text
