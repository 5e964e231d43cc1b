# SPDX-License-Identifier: Apache-2.0
"""Run a program to its end, or end it: argv list, deadline, bounded output."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Optional

from glideinwms_bosco.errors import KeyBackendError
from glideinwms_bosco.link.deadline import bounded

MAX_OUTPUT_BYTES = 65536


@dataclass(frozen=True)
class Finished:
    """A program that has ended.

    Attributes:
        status: its exit status; negative: minus the signal that ended it.
    """

    status: int
    stdout: bytes
    stderr: str


async def run_command(
    argv: Sequence[str],
    deadline_s: float,
    *,
    stdin: Optional[IO[bytes]] = None,
    environment: Optional[Mapping[str, str]] = None,
    folder: Optional[Path] = None,
) -> Finished:
    """Run a program in its own process group, which is killed when this does not end well.

    Args:
        stdin: None for /dev/null.
        folder: its working directory.

    Raises:
        KeyBackendError: it cannot be started, or has not ended in time, or printed more than MAX_OUTPUT_BYTES.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL if stdin is None else stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=None if environment is None else dict(environment),
            cwd=folder,
            start_new_session=True,
        )
    except OSError as err:
        raise KeyBackendError(f"{argv[0]}: cannot be started: {err.strerror or err}") from None
    try:
        stdout, stderr = await bounded(deadline_s, _output(process))
    except BaseException as err:
        # What it has started has inherited the group, and may hold a secret.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        if isinstance(err, asyncio.TimeoutError):
            raise KeyBackendError(f"{argv[0]}: has not ended within {deadline_s:g} s") from None
        raise
    return Finished(process.returncode or 0, stdout, stderr.decode("utf-8", "replace"))


async def _output(process: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
    stdout, stderr = await asyncio.gather(_bounded(process.stdout), _bounded(process.stderr))
    await process.wait()
    return stdout, stderr


async def _bounded(stream: Optional[asyncio.StreamReader]) -> bytes:
    if stream is None:
        return b""
    taken = bytearray()
    while True:
        piece = await stream.read(MAX_OUTPUT_BYTES)
        if not piece:
            return bytes(taken)
        taken += piece
        if len(taken) > MAX_OUTPUT_BYTES:
            raise KeyBackendError(f"a program prints more than {MAX_OUTPUT_BYTES} bytes")
