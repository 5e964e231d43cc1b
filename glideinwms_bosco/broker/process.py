# SPDX-License-Identifier: Apache-2.0
"""The daemon as a process: it leaves no core dump, nobody traces it, and only one of it runs."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import time
from pathlib import Path
from typing import Optional

from glideinwms_bosco.errors import BrokerError

_PR_SET_DUMPABLE = 4
"""Source: prctl(2), linux/prctl.h."""
_PID_MODE = 0o644
_LOCK_TRIES, _LOCK_PAUSE_S = 10, 0.02


def forbid_dumps() -> None:
    """Let no core dump be made of this process and its children, and no process of the same user trace it.

    Raises:
        BrokerError: the kernel refuses.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise BrokerError(f"core dumps cannot be forbidden: {os.strerror(ctypes.get_errno())}")


class PidFile:
    """A file with our pid, locked as long as we live: the lock, not the number, says that a broker runs.

    Raises:
        BrokerError: another broker runs with this state folder, or the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _PID_MODE)
        except OSError as err:
            hint = "run it as the broker's user; the state folder must belong to it"
            raise BrokerError(f"{path}: cannot be written: {err.strerror}", hint) from None
        try:
            self._lock()
        except OSError:
            os.close(self._file)
            raise BrokerError(f"{path}: another broker runs with this state folder", "stop it first") from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, b"%d\n" % os.getpid(), 0)

    def _lock(self) -> None:
        """Lock it; whoever looks whether a broker runs has it for an instant, too.

        Raises:
            BlockingIOError: another broker has it.
        """
        for _ in range(_LOCK_TRIES - 1):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(_LOCK_PAUSE_S)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self) -> None:
        """Empty and unlock it; the file stays, for removing it would leave two locks under one name."""
        os.ftruncate(self._file, 0)
        os.close(self._file)


def running_pid(path: Path) -> Optional[int]:
    """Pid of the broker that runs with this pid file; None when none runs."""
    try:
        with path.open("rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = stream.read(32).strip()
                return int(text) if text.isdigit() else None
    except OSError:
        return None
    return None


def _is_of_owner(pid: int, path: Path) -> bool:
    """Whether a process is of the user whose pid file names it: root must not signal what another account writes."""
    try:
        return pid > 1 and Path(f"/proc/{pid}").stat().st_uid == path.stat().st_uid
    except OSError:
        return False


def tell_to_reload(path: Path) -> bool:
    """Send SIGHUP to the running broker.

    Returns:
        False when none runs.

    Raises:
        BrokerError: it runs as another user.
    """
    pid = running_pid(path)
    if pid is None or not _is_of_owner(pid, path):
        return False
    try:
        os.kill(pid, signal.SIGHUP)
    except ProcessLookupError:
        return False
    except PermissionError:
        hint = f"run this as the broker's user or root, or: systemctl reload gwms-ssh-broker (pid {pid})"
        raise BrokerError("the running broker cannot be told to reload", hint) from None
    return True
