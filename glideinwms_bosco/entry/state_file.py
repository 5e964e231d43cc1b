# SPDX-License-Identifier: Apache-2.0
"""The remembered states of entries, and the lock that keeps two commands from writing at once."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from glideinwms_bosco.entry.lifecycle import Record, State
from glideinwms_bosco.errors import EntryError
from glideinwms_bosco.state_folder import give_to_owner, make_folder, write_file, write_hint

FORMAT = 1
MAX_STATE_BYTES = 1 << 22
"""Largest state file read, bytes; a record is about 100."""
LOCK_WAIT_S = 5.0
_POLL_S = 0.1


def load_states(state_dir: Path) -> dict[str, Record]:
    """Read what is remembered; nothing when there is no file yet.

    Raises:
        EntryError: the file cannot be read or has another form.
    """
    path = _path(state_dir)
    try:
        if path.stat().st_size > MAX_STATE_BYTES:
            raise EntryError(f"{path} is larger than {MAX_STATE_BYTES} bytes", "restore it from a backup")
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as err:
        raise EntryError(f"{path}: cannot be read: {err.strerror}", "run this as the user who owns it") from None
    except ValueError:
        raise EntryError(f"{path} is not JSON", "restore it from a backup, or move it away") from None
    try:
        if data["format"] != FORMAT:
            raise ValueError
        return {str(name): _record(row) for name, row in data["entries"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise EntryError(f"{path} has a form that this version does not know", "restore it, or move it away") from None


def save_states(state_dir: Path, states: Mapping[str, Record]) -> None:
    """Write the states atomically; entries that are active need no record.

    Raises:
        EntryError: the file cannot be written; the old one is untouched.
    """
    rows = {
        name: {"state": record.state.value, "since": record.since, "by": record.by}
        for name, record in sorted(states.items())
        if record.state is not State.ACTIVE
    }
    text = json.dumps({"format": FORMAT, "entries": rows}, indent=1, sort_keys=True) + "\n"
    path = _path(state_dir)
    try:
        write_file(path, text.encode(), state_dir)
    except OSError as err:
        hint = write_hint(err, state_dir, "check space and permissions")
        raise EntryError(f"{path}: cannot be written: {err.strerror}", hint) from None


def new_record(state: State) -> Record:
    """A record of now and of this user."""
    return Record(state, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), _user())


@contextmanager
def locked(state_dir: Path, command: str) -> Iterator[None]:
    """Hold the host's lock on entries; a killed holder frees it.

    Raises:
        EntryError: another command holds it for longer than LOCK_WAIT_S (named), or the folder cannot be written.
    """
    path = state_dir / "entries.lock"
    try:
        make_folder(state_dir, state_dir)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        give_to_owner(path, state_dir)
    except OSError as err:
        hint = write_hint(err, state_dir, "set GWMS_BOSCO_STATE")
        raise EntryError(f"{path}: cannot be opened: {err.strerror}", hint) from None
    with os.fdopen(handle, "r+", encoding="utf-8") as file:
        ends = time.monotonic() + LOCK_WAIT_S
        while not _try_lock(file.fileno()):
            if time.monotonic() > ends:
                holder = " ".join(file.read(300).split()) or "somebody"
                raise EntryError(f"entries are locked by {holder}", "wait for it, then run the command again")
            time.sleep(_POLL_S)
        file.truncate(0)
        file.write(f"`gwms-bosco {command}` of {_user()}, process {os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _record(row: Mapping[str, object]) -> Record:
    return Record(State(row["state"]), str(row["since"]), str(row["by"]))


def _path(state_dir: Path) -> Path:
    return state_dir / "entries.json"
