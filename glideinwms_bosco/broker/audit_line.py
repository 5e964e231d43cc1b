# SPDX-License-Identifier: Apache-2.0
"""One line of the audit log: a JSON object with its number and the digest of the line before it. And the files' names.

    {"seq": 7, "t": "2027-01-31T12:00:00.123Z", "prev": "<64 hex digits>", "event": ...}

Each line names its predecessor, so none can be altered, removed or inserted without breaking the chain behind it. That
the end is still there, only a head kept elsewhere can tell (`audit_head`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

CURRENT = "audit.jsonl"
FIRST_PREV = "0" * 64
"""What the very first line names as its predecessor."""
MAX_LINE_BYTES = 16384

_ROTATED = re.compile(r"audit-([0-9]{12})\.jsonl", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
# ASCII, so that nothing in a line can look like a line break or steer a terminal.
_ENCODER = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))


@dataclass(frozen=True)
class Line:
    """A line that parses.

    Attributes:
        seq: 1-based number in the whole log.
        prev: hex SHA-256 of the line before it, without its newline.
        digest: the same of this line.
        record: everything in it.
    """

    seq: int
    prev: str
    digest: str
    record: Mapping[str, Any]


def line_digest(raw: bytes) -> str:
    """Hex SHA-256 of a line without its newline."""
    return hashlib.sha256(raw).hexdigest()


def write_line(seq: int, prev: str, now: float, record: Mapping[str, Any]) -> bytes:
    """A line without its newline."""
    moment = datetime.fromtimestamp(now, timezone.utc).isoformat(timespec="milliseconds")
    head = {"seq": seq, "t": moment.replace("+00:00", "Z"), "prev": prev}
    return _ENCODER.encode({**head, **record}).encode("ascii")


def read_line(raw: bytes) -> Optional[Line]:
    """Parse a line without its newline; None for anything that was not written by `write_line`."""
    if len(raw) > MAX_LINE_BYTES:
        return None
    try:
        record = json.loads(raw.decode("ascii"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    seq, prev = record.get("seq"), record.get("prev")
    if type(seq) is not int or seq < 1 or not isinstance(prev, str) or not _HEX.fullmatch(prev):
        return None
    return Line(seq, prev, line_digest(raw), record)


def rotated_name(first_seq: int) -> str:
    """Name of a full file whose first line has this number."""
    return f"audit-{first_seq:012d}.jsonl"


def log_files(folder: Path) -> list[Path]:
    """Files of the log, oldest first."""
    rotated = sorted(path for path in folder.iterdir() if _ROTATED.fullmatch(path.name))
    current = folder / CURRENT
    return [*rotated, current] if current.exists() else rotated
