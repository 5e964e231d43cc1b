# SPDX-License-Identifier: Apache-2.0
"""Write rendered entries into config.d, whole files or nothing."""

from __future__ import annotations

from pathlib import Path

from glideinwms_bosco.atomic import write_atomic
from glideinwms_bosco.errors import EntryError


def has_content(path: Path, text: bytes) -> bool:
    """Tell whether the file has these bytes already.

    Raises:
        EntryError: it cannot be read.
    """
    try:
        return path.is_file() and path.read_bytes() == text
    except OSError as err:
        raise EntryError(f"{path}: cannot be read: {err.strerror}", "is the folder yours?") from None


def write_entry_file(path: Path, text: bytes) -> bool:
    """Put `text` at `path` atomically; returns False when the file already has these bytes and was left alone.

    A reconfig at the same moment reads the old file or the new one: it takes every `config.d/*.xml`, and the temporary
    name does not end so (glideinWMS 3.10 creation/lib/factoryXmlConfig.py, parse).

    Raises:
        EntryError: the folder is missing or cannot be written; nothing has changed.
    """
    try:
        return write_atomic(path, text)
    except OSError as err:
        hint = "check that the folder exists and is yours"
        raise EntryError(f"{path}: cannot be written: {err.strerror}", hint) from None
