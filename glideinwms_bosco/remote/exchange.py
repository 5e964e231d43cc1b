# SPDX-License-Identifier: Apache-2.0
"""Feed a child process and collect what it says, under a deadline and with bounded memory."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Optional, cast

WRITE_CHUNK_BYTES = 65536
READ_CHUNK_BYTES = 65536
TERMINATE_WAIT_S = 2.0


@dataclass(frozen=True)
class Output:
    """What a child process has left.

    Attributes:
        status: exit status; negative for a signal, as subprocess gives it.
        stdout, stderr: bytes, complete unless `overflow` or `expired`; stderr keeps its end only.
        expired: the deadline passed and the process was killed.
        overflow: stdout passed its limit and the process was killed.
    """

    status: int
    stdout: bytes
    stderr: bytes
    expired: bool
    overflow: bool


def end_process(process: subprocess.Popen[bytes]) -> None:
    """End a child and collect it: TERM first, KILL after TERMINATE_WAIT_S seconds. Safe to call twice."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(TERMINATE_WAIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class _Pump:
    def __init__(self, process: subprocess.Popen[bytes], data: Sequence[bytes], max_output_bytes: int) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.overflow = False
        self._left = [memoryview(part) for part in data if part]
        self._written = 0
        self._max = max_output_bytes
        self._pipes = [cast("IO[bytes]", pipe) for pipe in (process.stdin, process.stdout, process.stderr)]
        self._selector = selectors.DefaultSelector()
        for pipe, events in zip(self._pipes, (selectors.EVENT_WRITE, selectors.EVENT_READ, selectors.EVENT_READ)):
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, events)

    def _write(self, pipe: IO[bytes], sent: Optional[Callable[[int], None]]) -> None:
        try:
            count = os.write(pipe.fileno(), self._left[0][:WRITE_CHUNK_BYTES]) if self._left else 0
        except BlockingIOError:
            return
        except BrokenPipeError:
            # The reader has gone; why, stands in its output or exit status.
            self._left = []
            count = 0
        self._written += count
        if count:
            self._left[0] = self._left[0][count:]
            self._left = [part for part in self._left if part]
        if count and sent:
            sent(self._written)
        if not self._left:
            self._selector.unregister(pipe)
            pipe.close()

    def _read(self, pipe: IO[bytes]) -> None:
        try:
            chunk = os.read(pipe.fileno(), READ_CHUNK_BYTES)
        except BlockingIOError:
            return
        if not chunk:
            self._selector.unregister(pipe)
            return
        if pipe is self._pipes[1]:
            self.overflow = len(self.stdout) + len(chunk) > self._max
            if not self.overflow:
                self.stdout += chunk
        else:
            self.stderr += chunk
            del self.stderr[: -self._max]

    def run(self, ends_at: float, sent: Optional[Callable[[int], None]]) -> bool:
        """Move bytes until all pipes are at their end; return False when the deadline came first."""
        while self._selector.get_map() and not self.overflow:
            left_s = ends_at - time.monotonic()
            if left_s <= 0:
                return False
            for key, _ in self._selector.select(left_s):
                pipe = cast("IO[bytes]", key.fileobj)
                if pipe is self._pipes[0]:
                    self._write(pipe, sent)
                else:
                    self._read(pipe)
        return True

    def close(self) -> None:
        self._selector.close()
        for pipe in self._pipes:
            pipe.close()


def exchange(
    argv: Sequence[str],
    data: Sequence[bytes],
    *,
    env: Mapping[str, str],
    deadline_s: float,
    max_output_bytes: int,
    sent: Optional[Callable[[int], None]] = None,
) -> Output:
    """Run a command, write `data` to its stdin while reading its output, and collect it.

    The child is always gone when this returns or raises, whatever is raised (`sent` may raise too).

    Args:
        argv: the command; it gets a session of its own, so that it cannot ask on the terminal.
        data: everything for its standard input, in parts that need not be copied together; it is then closed.
        env: its environment.
        deadline_s: seconds after which it is killed.
        max_output_bytes: stdout beyond this ends the process; stderr is cut to its last bytes.
        sent: called with the number of bytes written so far after each write.

    Raises:
        OSError: when the command cannot be started.
    """
    ends_at = time.monotonic() + deadline_s
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, start_new_session=True
    )
    pump = _Pump(process, data, max_output_bytes)
    try:
        finished = pump.run(ends_at, sent)
        if finished and not pump.overflow:
            try:
                process.wait(max(0.0, ends_at - time.monotonic()))
            except subprocess.TimeoutExpired:
                finished = False
    finally:
        end_process(process)
        pump.close()
    return Output(process.returncode, bytes(pump.stdout), bytes(pump.stderr), not finished, pump.overflow)
