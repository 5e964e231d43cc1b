# SPDX-License-Identifier: Apache-2.0
"""Which maintenance handles are open, and until when: a file in the broker's state folder, written by `key open`.

The daemon reads it before it decides about a maintenance handle; a file that is missing or not readable as such means
that all are closed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from glideinwms_bosco.atomic import write_atomic
from glideinwms_bosco.errors import BrokerError, UsageError

FILE = "opened.json"
MAX_FILE_BYTES = 1 << 20
MAX_OPEN_S = 7 * 86400
"""Longest time a handle can be opened for: a deploy takes minutes, an open end would be forgotten."""

_UNITS_S = {"m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([1-9][0-9]{0,4})([mhd])", re.ASCII)


def parse_duration(text: str) -> int:
    """Seconds of a duration such as 30m, 2h or 1d.

    Raises:
        UsageError: another form, or longer than MAX_OPEN_S.
    """
    match = _DURATION.fullmatch(text)
    seconds = int(match.group(1)) * _UNITS_S[match.group(2)] if match else 0
    if not 0 < seconds <= MAX_OPEN_S:
        raise UsageError(f"{text!r} is no usable duration", "write 30m, 2h or 1d; at most 7d")
    return seconds


def read_opened(state_dir: Path) -> Mapping[str, float]:
    """Entry name -> unix seconds until which it is open; also those that have passed.

    Returns:
        Nothing when there is no file, or none that was written here: then all handles are closed.
    """
    try:
        with (state_dir / FILE).open("rb") as stream:
            data = json.loads(stream.read(MAX_FILE_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(data, dict):
        return {}
    return {name: float(until) for name, until in data.items() if type(until) is int}


def open_entry(state_dir: Path, name: str, for_s: int, now: float) -> int:
    """Open the maintenance handle of an entry.

    Returns:
        Unix seconds until which it is open.

    Raises:
        UsageError: longer than MAX_OPEN_S.
        BrokerError: the state folder cannot be written.
    """
    if not 0 < for_s <= MAX_OPEN_S:
        raise UsageError(f"{for_s} s is no usable duration", f"at most {MAX_OPEN_S} s")
    until = int(now) + for_s
    with _changed(state_dir, now) as opened:
        opened[name] = until
    return until


def close_entry(state_dir: Path, name: str, now: float) -> bool:
    """Close it again before its time.

    Returns:
        False when it was not open.

    Raises:
        BrokerError: the state folder cannot be written.
    """
    with _changed(state_dir, now) as opened:
        return opened.pop(name, None) is not None


@contextlib.contextmanager
def _changed(state_dir: Path, now: float) -> Iterator[dict[str, int]]:
    """Read, let the caller change, write; one at a time. What has passed is dropped."""
    try:
        # The folder itself is the lock: nothing else is left behind.
        folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            opened = {name: int(until) for name, until in read_opened(state_dir).items() if until > now}
            yield opened
            write_atomic(state_dir / FILE, (json.dumps(opened, indent=2) + "\n").encode("utf-8"))
        finally:
            os.close(folder)
    except OSError as error:
        hint = "run this as the broker's user or root"
        raise BrokerError(f"{state_dir}: cannot write {FILE}: {error.strerror}", hint) from None
