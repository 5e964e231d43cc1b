# SPDX-License-Identifier: Apache-2.0
"""Find what was removed from, altered in or inserted into an audit log, and read it as it grows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Optional

from glideinwms_bosco.broker.audit_head import Head, read_head
from glideinwms_bosco.broker.audit_line import (
    CURRENT,
    FIRST_PREV,
    MAX_LINE_BYTES,
    Line,
    line_digest,
    log_files,
    read_line,
    rotated_name,
)
from glideinwms_bosco.errors import AuditError

MAX_FINDINGS = 100
"""Most findings kept: a log with more of them is past reading."""
_BLOCK_BYTES = 65536
_TRIES = 3


@dataclass(frozen=True)
class Finding:
    """Something that cannot be in an honest log.

    Attributes:
        line: 1-based line in the file; 0 for what is not there at all.
        message: one sentence.
    """

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


@dataclass(frozen=True)
class Report:
    """Result of a check.

    Attributes:
        lines: lines read.
        first_seq: number of the first line; above 1 when old files were taken away, 0 when there is no line.
        last: head as computed from the lines; None when there is no line.
        findings: at most MAX_FINDINGS; none: the log is whole as far as the known heads reach.
        compared_heads: heads whose line stands in the log.
    """

    lines: int
    first_seq: int
    last: Optional[Head]
    findings: tuple[Finding, ...]
    compared_heads: int


def verify(folder: Path, heads: Iterable[Head] = (), broker_pin: Optional[str] = None) -> Report:
    """Check all files of a log against each other and against heads.

    Args:
        heads: from the journal (`audit_head.heads_of_journal`); the one in the folder is taken too.
        broker_pin: of the key that must have signed the folder's head; None takes any.

    Raises:
        AuditError: the folder or a file cannot be read.
    """
    known = tuple(heads)
    try:
        for _ in range(_TRIES):
            files = log_files(folder)
            report = _verify_once(folder, files, known, broker_pin)
            # A broker at work may have rotated meanwhile: what was the current file then was read under another name.
            if files == log_files(folder):
                break
    except OSError as error:
        raise _unreadable(folder, error) from None
    return report


def _unreadable(folder: Path, error: OSError) -> AuditError:
    hint = "gwms-ssh-broker init makes it" if isinstance(error, FileNotFoundError) else "run this as root"
    return AuditError(f"audit log {folder}: cannot be read: {error.strerror}", hint)


def _verify_once(folder: Path, files: Iterable[Path], heads: Iterable[Head], broker_pin: Optional[str]) -> Report:
    check = _Check(heads)
    try:
        own = read_head(folder, broker_pin)
    except AuditError as error:
        check.report(str(folder), 0, error.message)
    else:
        if own is not None:
            check.add_head(own)
    for file in files:
        with file.open("rb") as stream:
            check.file(str(file), stream)
    return check.finish(str(folder))


@dataclass
class _Check:
    """Walks through the lines in their order."""

    heads: Iterable[Head]
    _findings: list[Finding] = field(default_factory=list)
    _lines: int = 0
    _first_seq: int = 0
    _seq: int = 0
    _digest: Optional[str] = None
    _compared: int = 0

    def __post_init__(self) -> None:
        self._known: dict[int, set[str]] = {}
        for head in self.heads:
            self.add_head(head)

    def add_head(self, head: Head) -> None:
        """One more head to compare with."""
        self._known.setdefault(head.seq, set()).add(head.digest)

    def report(self, file: str, number: int, message: str) -> None:
        """One more finding."""
        if len(self._findings) < MAX_FINDINGS:
            self._findings.append(Finding(file, number, message))

    def file(self, file: str, stream: BinaryIO) -> None:
        """All lines of a file."""
        number = 0
        while True:
            raw = stream.readline(MAX_LINE_BYTES + 2)
            if not raw:
                return
            number += 1
            if not raw.endswith(b"\n"):
                self.report(file, number, "a line that does not end: cut off, or being written now")
                return
            self._line(file, number, raw[:-1])

    def _line(self, file: str, number: int, raw: bytes) -> None:
        self._lines += 1
        line = read_line(raw)
        if line is None:
            self.report(file, number, "not a line of an audit log: altered or inserted")
            self._digest = line_digest(raw)
            return
        if self._digest is None:
            self._first(file, number, line)
        elif line.seq > self._seq + 1:
            self._gap(file, number, line)
        elif line.seq <= self._seq:
            self.report(file, number, f"line {line.seq} stands behind line {self._seq}: one of them was inserted")
        elif line.prev != self._digest:
            self.report(
                file, number, f"line {line.seq} does not continue the one before it: one of the two was altered"
            )
        for digest in self._known.get(line.seq, ()):
            self._compared += 1
            if digest != line.digest:
                self.report(file, number, f"line {line.seq} is not the one of the head that was written down")
        if line.record.get("event") == "altered":
            self.report(file, number, f"the broker found line {line.record.get('line')} altered at its start")
        self._seq = max(self._seq, line.seq)
        self._digest = line.digest

    def _first(self, file: str, number: int, line: Line) -> None:
        self._first_seq = line.seq
        if line.seq == 1 and line.prev != FIRST_PREV:
            self.report(file, number, "the first line names a line before it")

    def _gap(self, file: str, number: int, line: Line) -> None:
        first = self._seq + 1
        gone = f"line {first} is" if first == line.seq - 1 else f"lines {first} to {line.seq - 1} are"
        known = "; the broker found so at its start" if line.record.get("event") == "gap" else ""
        self.report(file, number, f"{gone} missing{known}")

    def finish(self, folder: str) -> Report:
        """Compare the end with the heads."""
        newest = max(self._known, default=0)
        if newest > self._seq:
            self.report(folder, 0, f"the log ends at line {self._seq}, a head was written for line {newest}: cut off")
        last = Head(self._seq, self._digest) if self._digest is not None and self._seq else None
        return Report(self._lines, self._first_seq, last, tuple(self._findings), self._compared)


def follow(folder: Path, wait: Callable[[], bool], from_start: bool = False) -> Iterator[Line]:
    """Read lines as they are written, over rotations; what does not parse is passed over (`verify` finds it).

    Args:
        wait: called when there is nothing more to read; False ends.
        from_start: begin with the oldest line instead of the next one.

    Raises:
        AuditError: the log cannot be read.
    """
    try:
        yield from _follow(folder, wait, from_start)
    except OSError as error:
        raise _unreadable(folder, error) from None


def _follow(folder: Path, wait: Callable[[], bool], from_start: bool) -> Iterator[Line]:
    stream: Optional[BinaryIO] = None
    # Until the end was reached once, lines only tell where the log stands.
    seq, rest, quiet = 0, b"", not from_start
    try:
        while True:
            if stream is None:
                stream, rest = _open_next(folder, seq, quiet), b""
            # Looked at before reading: what was written before the rotation is then read in any case.
            over = stream is not None and _is_rotated(folder, stream)
            block = stream.read(_BLOCK_BYTES) if stream is not None else b""
            *lines, rest = (rest + block).split(b"\n")
            for line in map(read_line, lines):
                if line is not None and line.seq > seq:
                    seq = line.seq
                    if not quiet:
                        yield line
            if block:
                continue
            quiet = False
            if over and stream is not None:
                stream.close()
                stream = None
            elif not wait():
                return
    finally:
        if stream is not None:
            stream.close()


def _open_next(folder: Path, seq: int, quiet: bool) -> Optional[BinaryIO]:
    """The file with the first line behind `seq`, the oldest for 0; or the newest, some lines before its end."""
    files = log_files(folder)
    if not files:
        return None
    behind = [file for file in files if file.name != CURRENT and file.name > rotated_name(seq)]
    newest = quiet or (seq > 0 and not behind)
    stream = (files[-1] if newest else (behind or files)[0]).open("rb")
    if quiet:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - 2 * MAX_LINE_BYTES))
    return stream


def _is_rotated(folder: Path, stream: BinaryIO) -> bool:
    """Tell whether a file is not the current one (any more), and there is a current one."""
    try:
        current = (folder / CURRENT).stat()
    except FileNotFoundError:
        return False
    return not os.path.samestat(current, os.fstat(stream.fileno()))
