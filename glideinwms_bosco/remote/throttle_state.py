# SPDX-License-Identifier: Apache-2.0
"""What all commands of this factory know together about one login host: lock files, and a small file under a lock.

A slot is a lock that the kernel gives back when its process ends, however it ends. Times are UNIX times, as the file
outlives a reboot; one that a changed clock has put out of bounds is brought back into them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.state_folder import give_to_owner, make_folder, write_file

WINDOW_S = 60.0
MAX_QUIET_S = 300.0
"""A host that turns connections away is left alone for no longer than this (s)."""
MAX_STATE_BYTES = 65536
_FILE_MODE = 0o644


@dataclass
class HostState:
    """State of one login host, while its lock is held.

    Attributes:
        starts: when connections were opened, within the last WINDOW_S seconds, oldest first.
        refusals: how often in a row the host has turned a connection away.
        quiet_until: before this no connection is tried.
    """

    starts: list[float] = field(default_factory=list)
    refusals: int = 0
    quiet_until: float = 0.0

    def wait_s(self, per_minute: int, now: float) -> float:
        """Seconds until another connection may be opened; 0 when it may be now."""
        quiet = self.quiet_until - now
        full = self.starts[-per_minute] + WINDOW_S - now if len(self.starts) >= per_minute else 0.0
        return max(0.0, quiet, full)


def _within(value: Any, least: float, most: float) -> Optional[float]:
    return float(value) if isinstance(value, (int, float)) and least <= value <= most else None


def parse_state(text: bytes, now: float) -> HostState:
    """Read what the file says; anything that cannot be is left out, as a lost state only costs a try."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return HostState()
    if not isinstance(data, dict) or not isinstance(data.get("starts"), list):
        return HostState()
    starts = [_within(value, now - WINDOW_S, now) for value in data["starts"]]
    refusals = data.get("refusals")
    return HostState(
        starts=sorted(value for value in starts if value is not None),
        refusals=refusals if isinstance(refusals, int) and refusals > 0 else 0,
        quiet_until=_within(data.get("quiet_until"), now, now + MAX_QUIET_S) or 0.0,
    )


def _as_json(state: HostState) -> bytes:
    return json.dumps(vars(state)).encode()


class HostFolder:
    """Files of one login host. A full disk stops no command: the state is then kept in memory.

    Args:
        folder: `connections/HOST_PORT` of the state folder; is made when it is missing.

    Raises:
        OSError: it cannot be made or written, or its file system has no locks.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._state_dir = folder.parent.parent
        make_folder(folder, self._state_dir)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{folder} is not writable")
        self._unwritten: Optional[HostState] = None
        with contextlib.closing(self._slot("lock")) as lock:
            lock.take(wait=False)

    def _slot(self, name: str) -> Slot:
        slot = Slot(self._folder / name)
        give_to_owner(self._folder / name, self._state_dir)
        return slot

    @property
    def file(self) -> Path:
        """The state file; removing it makes the host as new."""
        return self._folder / "state.json"

    @contextlib.contextmanager
    def changing(self, now: float) -> Iterator[HostState]:
        """Give the state under its lock and write it back. The lock is held for file operations only."""
        with contextlib.closing(self._slot("lock")) as lock:
            lock.take(wait=True)
            state = self._read(now)
            yield state
            self._unwritten = None
            try:
                write_file(self.file, _as_json(state), self._state_dir, _FILE_MODE)
            except OSError:
                self._unwritten = state

    def _read(self, now: float) -> HostState:
        if self._unwritten is not None:
            return parse_state(_as_json(self._unwritten), now)
        try:
            with self.file.open("rb") as stream:
                return parse_state(stream.read(MAX_STATE_BYTES), now)
        except OSError:
            return HostState()

    def take_slot(self, count: int) -> Optional[Slot]:
        """Take one of `count` slots; None when all are taken. The caller closes what it gets."""
        for number in range(count):
            slot = self._slot(f"slot-{number}")
            if slot.take(wait=False):
                return slot
            slot.close()
        return None


class Slot:
    """One flock(2): it belongs to this open file, so it also holds between the threads of one process."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)

    def take(self, *, wait: bool) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        os.close(self._descriptor)
