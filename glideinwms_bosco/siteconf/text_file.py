# SPDX-License-Identifier: Apache-2.0
"""Read one file of a SITECONF, without trusting it: bounded, a regular file, UTF-8."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NoReturn

from glideinwms_bosco.errors import Problem, SiteconfFileError

MAX_FILE_BYTES = 256 * 1024
"""Largest site-local-config.xml, storage.json or storage.xml read; the largest real ones have 40,000 bytes."""
# libxml2 keeps the line number in 16 bits.
MAX_LINES = 65_535


def read_bytes(path: Path, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Read a whole file.

    Raises:
        SiteconfFileError: it cannot be read, is no regular file, or is larger than `max_bytes`.
    """
    file = str(path)
    try:
        # Without O_NONBLOCK a named pipe would wait for a writer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                refuse(file, 0, "is not a regular file", "name a file of a SITECONF")
            content = stream.read(max_bytes + 1)
    except OSError as err:
        refuse(file, 0, f"cannot be read: {err.strerror}", "check the path, its links and its permissions")
    except ValueError:
        refuse(file, 0, "is no possible path", "it has a NUL character")
    if len(content) > max_bytes:
        refuse(
            file, 0, f"is larger than {max_bytes} bytes", "no file of a SITECONF is; remove what does not belong in it"
        )
    return content


def read_text(path: Path) -> str:
    """Read a whole file as text.

    Raises:
        SiteconfFileError: also when it is empty, not UTF-8, or has NUL characters or too many lines.
    """
    return text_of(read_bytes(path), str(path))


def text_of(content: bytes, file: str) -> str:
    """The text of a file's bytes.

    Raises:
        SiteconfFileError: it is empty, not UTF-8, or has NUL characters or too many lines.
    """
    if len(content) > MAX_FILE_BYTES:
        refuse(file, 0, f"is larger than {MAX_FILE_BYTES} bytes")
    if not content.strip():
        refuse(file, 0, "is empty", "no reader takes it; write it, or remove the file")
    if content.count(b"\n") >= MAX_LINES:
        refuse(file, 0, f"has more than {MAX_LINES} lines", "remove what does not belong in it")
    nul = content.find(b"\0")
    if nul >= 0:
        refuse(file, _line_at(content, nul), "has a NUL byte", "save it as UTF-8 text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        refuse(file, _line_at(content, err.start), "has bytes that are not UTF-8", "save it as UTF-8 text")


def refuse(file: str, line: int, message: str, hint: str = "") -> NoReturn:
    """Raise the one problem of a file."""
    raise SiteconfFileError((Problem(file, line, "", message, hint),)) from None


def _line_at(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1
