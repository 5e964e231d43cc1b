# SPDX-License-Identifier: Apache-2.0
"""What pilots behind a closed site's firewall have written on the login node, as they could publish it nowhere else.

Files and text are other people's: payloads run as the same user. All is bounded, and printable ASCII.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.errors import RemoteError
from glideinwms_bosco.remote.messages import MAX_MESSAGES, MessageFormatError, Reply, one_line
from glideinwms_bosco.remote.program import load_program
from glideinwms_bosco.remote.ssh import SshSession

DEFAULT_FILES, MAX_FILES = 40, 1000
"""The newest of them are shown: one for each node and day."""
MAX_FILE_BYTES = 32_768
"""The end of each is shown; of many files less."""
MAX_BYTES = 8 * 1024 * 1024
"""Of all files, half of what an answer may have."""
MAX_LINE_CHARS = 1000
MAX_FILE_LINES = 1000
_OTHER_LINES = 10
_COUNT = re.compile("[0-9]{1,9}")
LOGS_TIMEOUT_S = 120.0
_FILE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,254}) (\d{1,15}) (\d{1,12})")
_UNPRINTABLE = re.compile(r"[^ -~]")


@dataclass(frozen=True)
class LogFile:
    """One file.

    Attributes:
        name: of the file in log/egress/.
        size: bytes at the site.
        changed_at: seconds since 1970.
        lines: the last ones, printable ASCII.
        cut: the file has more than is shown.
    """

    name: str
    size: int
    changed_at: int
    lines: tuple[str, ...]
    cut: bool


@dataclass(frozen=True)
class Logs:
    """What an account has.

    Attributes:
        folder: full path of bosco_dir, for showing; None when there is none.
        files: newest first.
        more: how many are left out, being older.
        odd: how many have names that are not shown.
    """

    folder: Optional[str]
    files: tuple[LogFile, ...]
    more: int
    odd: int


def limits_for(files: int) -> tuple[int, int]:
    """Most bytes and most lines of each file when so many are asked for; empty lines alone would fill the answer."""
    lines = (MAX_MESSAGES - _OTHER_LINES) // files - 1
    return min(MAX_FILE_BYTES, MAX_BYTES // files), min(MAX_FILE_LINES, lines)


def collect_logs(session: SshSession, bosco_dir: str, most: int = DEFAULT_FILES) -> Logs:
    """Ask an account for its files in log/egress/; changes nothing there.

    Args:
        session: of the account.
        bosco_dir: its install folder.
        most: files to show, 1 to MAX_FILES.

    Raises:
        RemoteError: and its subclasses, as `SshSession.run_script`.
    """
    header = (bosco_dir, str(most), *map(str, limits_for(most)))
    reply = session.run_script(load_program("begin.sh", "logs.sh"), header, deadline_s=LOGS_TIMEOUT_S)
    try:
        return parse_logs(reply, most)
    except MessageFormatError as error:
        raise RemoteError(f"{session.label} gave an answer that cannot be understood: {error}") from None


def parse_logs(reply: Reply, most: int = DEFAULT_FILES) -> Logs:
    """Read the answer of scripts/logs.sh.

    Args:
        reply: the answer.
        most: files that were asked for.

    Raises:
        MessageFormatError: a line is of another form, text comes before the first file, or there are more files.
    """
    files: list[LogFile] = []
    lines: list[list[str]] = []
    max_bytes, max_lines = limits_for(most)
    for message in reply.messages:
        if message.key == "FILE":
            found = _FILE.fullmatch(message.value)
            if found is None or len(files) == most:
                raise MessageFormatError(f"FILE {message.value[:60]!r}")
            files.append(LogFile(found[1], int(found[2]), int(found[3]), (), int(found[2]) > max_bytes))
            lines.append([])
        elif message.key == "TEXT":
            if not lines:
                raise MessageFormatError("TEXT before FILE")
            lines[-1].append(_UNPRINTABLE.sub("?", message.value[:MAX_LINE_CHARS]))
    folder = reply.values("FOLDER")
    done = tuple(
        LogFile(file.name, file.size, file.changed_at, tuple(text), file.cut or len(text) >= max_lines)
        for file, text in zip(files, lines)
    )
    return Logs(one_line(folder[0]) if folder else None, done, _count(reply, "MORE"), _count(reply, "ODD"))


def _count(reply: Reply, key: str) -> int:
    """The number on the only line of that key; 0: there is none, as the account has no such folder."""
    found = reply.values(key)
    if len(found) > 1 or any(_COUNT.fullmatch(value) is None for value in found):
        raise MessageFormatError(f"{key} {found[0][:40]!r}")
    return int(found[0]) if found else 0
