# SPDX-License-Identifier: Apache-2.0
"""The audit log: a record is written before its signature leaves; when it cannot be written, there is no signature.

`append` returns only after write(2) has taken the whole line, so a broker killed at any moment has never let a
signature out without a record. Against a power loss the file is synced in the background, at most SYNC_S later.
A line that was written in part (full disk) is cut off before the next one and kept beside the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.atomic import write_atomic
from glideinwms_bosco.broker.audit_head import Head, HeadSigner, read_head
from glideinwms_bosco.broker.audit_line import (
    CURRENT,
    FIRST_PREV,
    MAX_LINE_BYTES,
    Line,
    line_digest,
    log_files,
    read_line,
    rotated_name,
    write_line,
)
from glideinwms_bosco.errors import AuditError

SYNC_S = 0.5
"""Seconds between two syncs while there is something to sync."""
HEAD_S = 60.0
"""Seconds between two heads."""
MAX_FILE_BYTES = 64 << 20
"""A file larger than this is put aside and a new one begun."""
FILE_MODE = 0o640
_HINT = "free some space or repair the file system; nothing is signed until the log can be written"


class AuditLog:
    """The one writer of a log folder.

    Args:
        folder: exists and belongs to the broker.
        clock: unix seconds.
        announce: takes lines for the journal: heads, and what was found damaged.
        signer: signs heads; None writes them to the journal only.
        max_file_bytes: size after which a new file is begun.

    Raises:
        AuditError: another process writes there, or the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], float],
        announce: Callable[[str], None],
        signer: Optional[HeadSigner] = None,
        max_file_bytes: int = MAX_FILE_BYTES,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._announce = announce
        self._signer = signer
        self._max_file_bytes = max_file_bytes
        self._lock = -1
        self._file = -1
        self._size = 0
        self._first_seq = 0
        self._unsynced = False
        self._torn = False
        self._sync_failed = False
        self._announced: Optional[Head] = None
        self.head = Head(0, FIRST_PREV)
        try:
            self._take_lock()
            self._resume()
        except OSError as error:
            self._release()
            raise AuditError(f"audit log {folder}: {error.strerror}", _HINT) from None
        except BaseException:
            self._release()
            raise

    def append(self, record: Mapping[str, Any]) -> Line:
        """Write a record. When this returns, it will outlive this process.

        Raises:
            AuditError: it is not in the log as a whole line; whatever it was for must not happen.
        """
        if self._lock < 0:
            raise AuditError("the audit log is closed")
        if self._sync_failed:
            # After a failed fsync the kernel may have dropped what it could not write: no promise can be kept.
            raise AuditError("the audit log could not be synced to the disk", _HINT)
        try:
            if self._file < 0:
                # A rotation got stuck half way: the old file is put aside, the new one could not be opened.
                self._open_current()
                self._torn = True
            if self._torn:
                self._note(self._cut_tail())
            if self._size >= self._max_file_bytes:
                self._rotate()
            return self._write(record)
        except OSError as error:
            raise AuditError(f"the audit log cannot be written: {error.strerror}", _HINT) from None

    async def run(self) -> None:
        """Sync and announce heads until cancelled. A sync runs in a thread, so that requests go on meanwhile."""
        loop = asyncio.get_running_loop()
        next_head = loop.time() + HEAD_S
        while True:
            await asyncio.sleep(SYNC_S)
            if self._unsynced and self._file >= 0:
                self._unsynced = False
                # A descriptor of its own: a rotation meanwhile closes the other one.
                descriptor = os.dup(self._file)
                try:
                    await loop.run_in_executor(None, os.fsync, descriptor)
                except OSError as error:
                    self._sync_failed = True
                    self._announce(f"audit log {self._folder}: sync failed: {error.strerror}; nothing is signed")
                finally:
                    os.close(descriptor)
            if loop.time() >= next_head:
                next_head = loop.time() + HEAD_S
                with contextlib.suppress(AuditError):
                    self.publish_head()

    def publish_head(self) -> None:
        """Sync, then write and announce the head, if it is a new one.

        Raises:
            AuditError: the log cannot be synced, or the head cannot be written; it was announced all the same.
        """
        self._sync()
        if self.head.seq == 0 or self.head == self._announced:
            return
        self._announced = self.head
        self._announce(self.head.journal_line)
        if self._signer is not None:
            self._signer.write(self._folder, self.head)

    def close(self) -> None:
        """Publish the head and let go of the log."""
        try:
            if self._file >= 0:
                with contextlib.suppress(AuditError):
                    self.publish_head()
        finally:
            self._release()

    def _take_lock(self) -> None:
        self._lock = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AuditError(f"audit log {self._folder}: another process writes it", "stop the other broker") from None

    def _release(self) -> None:
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    def _resume(self) -> None:
        """Find the end of the log, repair it, and take up the chain."""
        self._open_current()
        repaired = self._cut_tail()
        if self._size == 0:
            self._after_rotated()
        # First the head: a note with the number of a line that is gone would hide that it is.
        self._note(self._compare_with_head())
        self._note(repaired)

    def _open_current(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(self._folder / CURRENT, flags, FILE_MODE)
        os.fsync(self._lock)

    def _note(self, record: Optional[Mapping[str, Any]]) -> None:
        if record is not None:
            self._write(record)

    def _cut_tail(self) -> Optional[Mapping[str, Any]]:
        """Cut off everything behind the last line that parses and has a newline; keep it in a file beside the log.

        Returns:
            A record of it, if there was something.
        """
        content = (self._folder / CURRENT).read_bytes()
        whole, last, first_seq = _whole_lines(content)
        self._size, self._first_seq = whole, first_seq
        if last is not None:
            self.head = Head(last.seq, last.digest)
        self._torn = False
        if whole == len(content):
            return None
        tail = content[whole:]
        aside = self._keep_aside(tail)
        os.ftruncate(self._file, whole)
        os.fsync(self._file)
        self._announce(f"audit log {self._folder}: {len(tail)} bytes behind line {self.head.seq} moved to {aside}")
        return {"event": "repair", "cut_bytes": len(tail), "cut_sha256": line_digest(tail), "kept": aside}

    def _keep_aside(self, tail: bytes) -> str:
        name = f"audit-torn-{self.head.seq:012d}-{line_digest(tail)[:12]}"
        write_atomic(self._folder / name, tail, mode=FILE_MODE)
        return name

    def _after_rotated(self) -> None:
        """An empty file continues the one before it."""
        rotated = [path for path in log_files(self._folder) if path.name != CURRENT]
        if not rotated or self.head.seq:
            return
        _, last, _ = _whole_lines(rotated[-1].read_bytes())
        if last is None:
            raise AuditError(f"{rotated[-1]}: holds no line of an audit log", "see: gwms-ssh-broker audit --verify")
        self.head = Head(last.seq, last.digest)

    def _compare_with_head(self) -> Optional[Mapping[str, Any]]:
        """Find lines gone that were there when the head was written.

        The numbers go on behind the head, so that the gap stays to be seen and heads in the journal stay true.

        Returns:
            A record of it, for the log itself; None when all is well.
        """
        try:
            known = read_head(self._folder)
        except AuditError as error:
            self._announce(f"audit log {self._folder}: {error}")
            return None
        if known is None or known.seq < self.head.seq or known == self.head:
            return None
        if known.seq == self.head.seq:
            self._announce(f"audit log {self._folder}: line {known.seq} is not the one that the head was written for")
            return {"event": "altered", "line": known.seq, "head_digest": known.digest}
        self._announce(f"audit log {self._folder}: lines {self.head.seq + 1} to {known.seq} are gone")
        missing = {"from": self.head.seq + 1, "to": known.seq, "head_digest": known.digest}
        self.head = Head(known.seq, self.head.digest)
        return {"event": "gap", **missing}

    def _write(self, record: Mapping[str, Any]) -> Line:
        raw = write_line(self.head.seq + 1, self.head.digest, self._clock(), record)
        line = read_line(raw)
        if line is None:
            raise AuditError(f"a record of {len(raw)} bytes is too long for the audit log (at most {MAX_LINE_BYTES})")
        # From here until the whole line is known to be in, the file may end in a part of it.
        self._torn = True
        written = os.write(self._file, raw + b"\n")
        if written != len(raw) + 1:
            raise AuditError(f"the audit log took {written} of {len(raw) + 1} bytes", _HINT)
        self._torn = False
        self._first_seq = self._first_seq or line.seq
        self._size += written
        self._unsynced = True
        self.head = Head(line.seq, line.digest)
        return line

    def _rotate(self) -> None:
        self._sync()
        path = self._folder / rotated_name(self._first_seq)
        if path.exists():
            raise AuditError(f"{path}: exists already", "see: gwms-ssh-broker audit --verify")
        (self._folder / CURRENT).replace(path)
        os.close(self._file)
        self._file = -1
        self._open_current()
        self._size = self._first_seq = 0

    def _sync(self) -> None:
        try:
            os.fsync(self._file)
        except OSError as error:
            self._sync_failed = True
            raise AuditError(f"the audit log cannot be synced: {error.strerror}", _HINT) from None


def _whole_lines(content: bytes) -> tuple[int, Optional[Line], int]:
    """The end of the last whole line (bytes), that line, and the first line's number (0 without one)."""
    end = content.rfind(b"\n") + 1
    first = read_line(content[: content.find(b"\n")]) if end else None
    while end:
        start = content.rfind(b"\n", 0, end - 1) + 1
        last = read_line(content[start : end - 1])
        if last is not None:
            return end, last, first.seq if first else last.seq
        end = start
    return 0, None, 0
