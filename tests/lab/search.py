# SPDX-License-Identifier: Apache-2.0
"""Search a whole lab host for bytes: its files, whatever it wrote or got, and the memory of all its processes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.lab.lab import Lab

# File systems in memory, beside the disk layer that holds all that the host has written.
_IN_MEMORY = ("run", "tmp", "dev/shm")
_CHUNK_BYTES = 1 << 22


def places_with(lab: Lab, host: str, patterns: Sequence[bytes]) -> list[str]:
    """Return every file and process of a host in which one of the patterns stands, as `file PATH` or `pid N NAME`."""
    found = [f"file {path}" for path in _files(lab, host) if _file_has(path, patterns)]
    return found + [_named(pid) for pid in processes(lab, host) if _memory_has(pid, patterns)]


def processes(lab: Lab, host: str) -> list[int]:
    """Every process of a host, as the machine numbers them."""
    space = _space(lab.host(host).pid1().pid)
    numbers = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return [pid for pid in numbers if _space(pid) == space]


def _space(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return ""


def _files(lab: Lab, host: str) -> Iterator[Path]:
    root = lab.host_root(host)
    places = [lab.settings.host_dir(host) / "up", *(root / name for name in _IN_MEMORY)]
    for place in places:
        for folder, _, names in os.walk(place):
            for name in names:
                path = Path(folder) / name
                if stat.S_ISREG(path.lstat().st_mode):
                    yield path


def _file_has(path: Path, patterns: Sequence[bytes]) -> bool:
    try:
        with path.open("rb") as handle:
            return _stream_has(iter(lambda: handle.read(_CHUNK_BYTES), b""), patterns)
    except FileNotFoundError:
        return False


def _stream_has(chunks: Iterator[bytes], patterns: Sequence[bytes]) -> bool:
    """A pattern may lie across two chunks."""
    keep = max(map(len, patterns)) - 1
    tail = b""
    for chunk in chunks:
        window = tail + chunk
        if any(pattern in window for pattern in patterns):
            return True
        tail = window[-keep:]
    return False


def _memory_has(pid: int, patterns: Sequence[bytes]) -> bool:
    try:
        with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            for line in maps:
                span, mode = line.split()[:2]
                if mode.startswith("r") and not line.rstrip().endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                    begin, end = (int(edge, 16) for edge in span.split("-"))
                    if _stream_has(_region(memory.fileno(), begin, end), patterns):
                        return True
    except (FileNotFoundError, ProcessLookupError):
        return False  # it has ended
    return False


def _region(memory: int, begin: int, end: int) -> Iterator[bytes]:
    while begin < end:
        try:
            chunk = os.pread(memory, min(_CHUNK_BYTES, end - begin), begin)
        except OSError:
            return  # pages of a device or of a file that was cut
        if not chunk:
            return
        begin += len(chunk)
        yield chunk


def _named(pid: int) -> str:
    try:
        return f"pid {pid} {Path(f'/proc/{pid}/comm').read_text().strip()}"
    except OSError:
        return f"pid {pid}"
