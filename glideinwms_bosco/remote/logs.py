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

MAX_FILES = 40
"""The newest of them are shown."""
MAX_FILE_BYTES = 32_768
"""The end of each is shown."""
MAX_LINE_CHARS = 1000
MAX_LINES = MAX_MESSAGES // (MAX_FILES + 10)
"""Of one file, so that a file of empty lines does not fill the answer."""
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
        more: files that are left out, being older.
        odd: files whose names are not shown.
    """

    folder: Optional[str]
    files: tuple[LogFile, ...]
    more: int
    odd: int


def collect_logs(session: SshSession, bosco_dir: str) -> Logs:
    """Ask an account for its files in log/egress/; changes nothing there.

    Raises:
        RemoteError: and its subclasses, as `SshSession.run_script`.
    """
    header = (bosco_dir, str(MAX_FILES), str(MAX_FILE_BYTES), str(MAX_LINES))
    reply = session.run_script(load_program("begin.sh", "logs.sh"), header, deadline_s=LOGS_TIMEOUT_S)
    try:
        return parse_logs(reply)
    except MessageFormatError as error:
        raise RemoteError(f"{session.label} gave an answer that cannot be understood: {error}") from None


def parse_logs(reply: Reply) -> Logs:
    """Read the answer of scripts/logs.sh.

    Raises:
        MessageFormatError: a line is of another form, or text comes before the first file.
    """
    files: list[LogFile] = []
    lines: list[list[str]] = []
    for message in reply.messages:
        if message.key == "FILE":
            found = _FILE.fullmatch(message.value)
            if found is None or len(files) == MAX_FILES:
                raise MessageFormatError(f"FILE {message.value[:60]!r}")
            files.append(LogFile(found[1], int(found[2]), int(found[3]), (), int(found[2]) > MAX_FILE_BYTES))
            lines.append([])
        elif message.key == "TEXT":
            if not lines:
                raise MessageFormatError("TEXT before FILE")
            lines[-1].append(_UNPRINTABLE.sub("?", message.value[:MAX_LINE_CHARS]))
    folder = reply.values("FOLDER")
    done = tuple(
        LogFile(file.name, file.size, file.changed_at, tuple(text), file.cut or len(text) >= MAX_LINES)
        for file, text in zip(files, lines)
    )
    return Logs(one_line(folder[0]) if folder else None, done, len(reply.values("MORE")), len(reply.values("ODD")))
