# SPDX-License-Identifier: Apache-2.0
"""A lab's state directory: it is written before anything is made, locked by its users, and the last thing to go."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from tests.lab.process import wait_for

LOCK_DEADLINE_S = 2000.0  # the longest `up`: it builds root file systems


@dataclasses.dataclass(frozen=True)
class LabState:
    """What a lab's state directory says.

    Attributes:
        profile: the profile it was started with.
        rootfs: names of the root file systems it stands on.
        ready: False while `up` is at work, or after it was killed.
        extras: the extra hosts that are ready.
    """

    profile: str
    rootfs: tuple[str, ...]
    ready: bool = False
    extras: tuple[str, ...] = ()


def read(state_dir: Path) -> Optional[LabState]:
    """Return the state, or None when there is none that can be read."""
    try:
        fields = json.loads((state_dir / "lab.json").read_text())
        return LabState(fields["profile"], tuple(fields["rootfs"]), fields["ready"], tuple(fields["extras"]))
    except (OSError, ValueError, KeyError):
        return None


def write(state_dir: Path, state: LabState) -> None:
    """Write the state by renaming."""
    fresh = state_dir / "lab.json.new"
    fresh.write_text(json.dumps(dataclasses.asdict(state)))
    fresh.rename(state_dir / "lab.json")


def take_flock(descriptor: int, what: str) -> None:
    """Take an exclusive flock(2); the kernel frees that of a killed process.

    Raises:
        LabError: not within LOCK_DEADLINE_S.
    """

    def taken() -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    wait_for(f"lock on {what}", taken, LOCK_DEADLINE_S)


@contextlib.contextmanager
def locked(state_dir: Path, create: bool) -> Iterator[None]:
    """Hold the lab's lock, which is the state directory itself, so that it goes with it.

    Without `create` a missing directory is not made and nothing is locked.

    Raises:
        LabError: not within LOCK_DEADLINE_S.
    """
    while True:
        if create:
            state_dir.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            if create:
                continue
            yield
            return
        try:
            take_flock(descriptor, str(state_dir))
            # The former holder may have removed the directory: then this lock protects nothing.
            if _is_same(descriptor, state_dir):
                yield
                return
        finally:
            os.close(descriptor)


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
