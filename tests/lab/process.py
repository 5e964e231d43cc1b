# SPDX-License-Identifier: Apache-2.0
"""Processes are known by pid AND start time, so that a reused pid is never taken for ours."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from tests.lab.settings import LabError

POLL_S = 0.02
MAX_POLL_S = 0.5
PATIENCE = 3
"""Deadlines in the code are for a machine that does nothing else; tests run several labs side by side, and what takes
this many times as long hangs."""
TAIL_LINES = 20


@dataclass(frozen=True)
class Record:
    """One process: pid and start time in clock ticks since boot (field 22 of /proc/PID/stat, proc(5))."""

    pid: int
    start: str

    def alive(self) -> bool:
        """Tell whether this very process still runs; a zombie does not."""
        fields = _stat_fields(self.pid)
        return fields is not None and fields[19] == self.start and fields[0] not in "ZX"

    def children(self) -> list[Record]:
        """Return the live children."""
        try:
            text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        except OSError:
            return []
        found = (record_of(int(word)) for word in text.split())
        return [child for child in found if child is not None and child.alive()]

    def kill(self) -> None:
        """Send SIGKILL to this very process; the pidfd closes the gap between the check and the signal."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.alive():
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)


def _stat_fields(pid: int) -> Optional[list[str]]:
    """Return the fields of /proc/PID/stat from the state on (the command name before it may hold anything)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def record_of(pid: int) -> Optional[Record]:
    """Return the record of a running process."""
    fields = _stat_fields(pid)
    return Record(pid, fields[19]) if fields else None


def read_record(path: Path) -> Optional[Record]:
    """Return the record in a file of two words, or None when there is none yet."""
    try:
        words = path.read_text().split()
    except OSError:
        return None
    return Record(int(words[0]), words[1]) if len(words) == 2 else None


def wait_for(what: str, probe: Callable[[], bool], deadline_s: float, log: Callable[[], str] = str) -> None:
    """Poll until `probe` says True.

    Raises:
        LabError: after PATIENCE times `deadline_s` seconds; with the end of what `log` returns.
    """
    began = asked = time.monotonic()
    end = began + PATIENCE * deadline_s
    while not probe():
        took = time.monotonic() - asked
        if time.monotonic() > end:
            try:
                end_of_log = tail(log())
            except (LabError, OSError) as error:
                end_of_log = f"    (no log: {error})"
            raise LabError(f"{what}: not within {end - began:g} s\n{end_of_log}".rstrip())
        # A probe that starts programs takes the CPU from what it waits for.
        time.sleep(min(max(POLL_S, 2 * took), MAX_POLL_S))
        asked = time.monotonic()


def tail(text: str) -> str:
    """Return the last lines of a log, indented."""
    return "\n".join("    " + line for line in text.splitlines()[-TAIL_LINES:])


def machine_env() -> dict[str, str]:
    """Return our environment with the administrator's programs found too."""
    return {**os.environ, "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"}


def communicate(
    argv: Sequence[str], *, text_in: Optional[str] = None, timeout: float, env: Optional[Mapping[str, str]] = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in its own session.

    On a time-out the whole process group is killed: killing only `nsenter` would leave its child running in the host.

    Raises:
        LabError: the time is over, or the program does not exist.
    """
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL if text_in is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            env=env or machine_env(),
        )
    except FileNotFoundError as error:
        raise LabError(f"cannot run {argv[0]}: {error.strerror}") from error
    with process:
        try:
            out, err = process.communicate(text_in, timeout=timeout)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise LabError(f"not done within {timeout:g} s: {' '.join(argv)}\n{tail(out + err)}") from error
            raise
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


def checked(argv: Sequence[str], *, text_in: Optional[str] = None, timeout: float = 180.0) -> str:
    """Run a command on the machine itself and return its standard output.

    Raises:
        LabError: it failed; with the end of its output.
    """
    done = communicate(argv, text_in=text_in, timeout=timeout)
    if done.returncode:
        raise LabError(f"{' '.join(argv)}: exit status {done.returncode}\n{tail(done.stdout + done.stderr)}")
    return done.stdout
