# SPDX-License-Identifier: Apache-2.0
"""A folder tree in memory, read from a folder or a tar file, and written as a tar stream that depends on it alone.

Everything is bounded before it is read, and what could write outside the folder it is unpacked in is refused.
"""

from __future__ import annotations

import io
import lzma
import os
import posixpath
import stat
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from glideinwms_bosco.errors import PilotError

MAX_TREE_BYTES = 256 << 20
"""Of all files together. A cvmfsexec distribution has about 100 MiB."""
MAX_MEMBERS = 20_000
MAX_PATH_BYTES = 1024
_MODE_BITS = 0o777
# The pilot must be able to remove what it has unpacked, and to read it; packages have folders of mode 0555.
_FOLDER_BITS = stat.S_IRWXU
_FILE_BITS = stat.S_IRUSR
_GZIP_LEVEL = 6
_GZIP_FRAME = 31  # zlib window bits for a gzip frame; its header then holds no time and no name


@dataclass(frozen=True)
class Member:
    """One path: a file has `content`, a link has `target`, a folder has neither."""

    mode: int
    content: Optional[bytes] = None
    target: Optional[str] = None

    @property
    def is_folder(self) -> bool:
        """A folder."""
        return self.content is None and self.target is None


Tree = Mapping[str, Member]
"""Path relative to the top -> member."""
Wanted = Callable[[str], bool]
"""Tells of a path whether it, and what is below it, is taken."""


class _Builder:
    """Collects members and keeps count."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.members: dict[str, Member] = {}
        self._bytes_left = MAX_TREE_BYTES

    def fail(self, message: str, hint: str = "") -> PilotError:
        return PilotError(f"{self.origin}: {message}", hint)

    def room_for(self, path: str, size: int) -> None:
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise self.fail(f"holds more than {MAX_TREE_BYTES} bytes", "is it the right one?")
        if len(self.members) >= MAX_MEMBERS:
            raise self.fail(f"holds more than {MAX_MEMBERS} files", "is it the right one?")
        if len(os.fsencode(path)) > MAX_PATH_BYTES:
            raise self.fail(f"{path[:80]}... is longer than {MAX_PATH_BYTES} bytes")

    def add(self, path: str, member: Member) -> None:
        if not _is_plain(path):
            raise self.fail(f"{path[:80]!r} is no usable path", "it must stay in the folder it is unpacked in")
        if member.target is not None:
            reached = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.target))
            if member.target.startswith("/") or reached.split("/")[0] == "..":
                raise self.fail(f"the link {path} leads outside, to {member.target}", "make it a relative link")
        self.members[path] = member

    def tree(self) -> Tree:
        for path in self.members:
            for parent in _parents(path):
                above = self.members.get(parent)
                if above is not None and not above.is_folder:
                    raise self.fail(f"{path} lies below {parent}, which is no folder", "pack it again")
        return dict(sorted(self.members.items()))


def read_folder(folder: Path, wanted: Wanted = lambda _path: True) -> Tree:
    """Read a folder, links as links.

    Raises:
        PilotError: it cannot be read, is too large, or has a link that leads outside or a special file.
    """
    builder = _Builder(str(folder))

    def visit(place: Path, prefix: str) -> None:
        with os.scandir(place) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            path = prefix + entry.name
            if wanted(path):
                _add_file(builder, Path(entry.path), path)
                if entry.is_dir(follow_symlinks=False):
                    visit(Path(entry.path), path + "/")

    try:
        visit(folder, "")
    except OSError as err:
        raise PilotError(f"{err.filename or folder}: cannot be read: {err.strerror}", "check its permissions") from None
    return builder.tree()


def _add_file(builder: _Builder, place: Path, path: str) -> None:
    info = place.lstat()
    mode = info.st_mode & _MODE_BITS
    builder.room_for(path, info.st_size if stat.S_ISREG(info.st_mode) else 0)
    if stat.S_ISLNK(info.st_mode):
        builder.add(path, Member(_MODE_BITS, target=str(place.readlink())))
    elif stat.S_ISDIR(info.st_mode):
        builder.add(path, Member(mode | _FOLDER_BITS))
    elif stat.S_ISREG(info.st_mode):
        builder.add(path, Member(mode | _FILE_BITS, content=read_file(place, info.st_size)))
    else:
        raise builder.fail(f"{path} is neither a file nor a folder nor a link", "remove it")


def read_file(path: Path, max_bytes: int) -> bytes:
    """Read a regular file that has at most so many bytes; no pipe, no link that was put there since.

    Raises:
        PilotError: it is not one, or larger.
        OSError: it cannot be read.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise PilotError(f"{path}: is not a regular file", "name a file")
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise PilotError(f"{path}: is larger than {max_bytes} bytes, or grows", "is it the right one?")
    return content


def read_tar(content: bytes, origin: str, wanted: Wanted = lambda _path: True) -> Tree:
    """Read a tar file, plain or compressed by gzip, bzip2 or xz; hard links become files of their own.

    Args:
        content: of the file.
        origin: its name, for messages.

    Raises:
        PilotError: it is no tar file, is cut short, too large, or has a path that leads outside or a special file.
    """
    builder = _Builder(origin)
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r|*") as tar:
            for info in tar:
                path = posixpath.normpath(info.name) if not info.name.startswith("/") else info.name
                if path != "." and wanted(path):
                    _add_member(builder, tar, info, path)
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError) as err:
        raise builder.fail(f"is no intact tar file: {' '.join(str(err).split())}", "make it again") from None
    return builder.tree()


def _add_member(builder: _Builder, tar: tarfile.TarFile, info: tarfile.TarInfo, path: str) -> None:
    builder.room_for(path, info.size if info.isreg() else 0)
    mode = info.mode & _MODE_BITS
    if info.isdir():
        builder.add(path, Member(mode | _FOLDER_BITS))
    elif info.issym():
        builder.add(path, Member(_MODE_BITS, target=info.linkname))
    elif info.islnk():
        same = builder.members.get(posixpath.normpath(info.linkname))
        if same is None or same.content is None:
            raise builder.fail(f"{path} is a hard link to {info.linkname[:80]!r}, which is no file before it")
        builder.room_for(path, len(same.content))
        builder.add(path, same)
    elif info.isreg():
        stream = tar.extractfile(info)
        body = stream.read() if stream is not None else b""
        if len(body) != info.size:
            raise builder.fail(f"is cut short in {path}", "make it again")
        builder.add(path, Member(mode | _FILE_BITS, content=body))
    else:
        raise builder.fail(f"{path} is neither a file nor a folder nor a link", "pack it again without it")


def tar_stream(tree: Tree) -> bytes:
    """The tree as a tar stream: every path in order, folders above it first; no times, no owners."""
    folders = {parent for path in tree for parent in _parents(path)} - set(tree)
    whole = {**tree, **{folder: Member(0o755) for folder in folders}}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, member in sorted(whole.items()):
            info = tarfile.TarInfo(path)  # mtime, uid and gid are 0, names empty
            info.mode = member.mode
            if member.target is not None:
                info.type, info.linkname = tarfile.SYMTYPE, member.target
            elif member.content is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(member.content)
            tar.addfile(info, io.BytesIO(member.content or b""))
    return buffer.getvalue()


def gzipped(stream: bytes) -> bytes:
    """A stream in a gzip frame; same stream, same bytes."""
    packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_FRAME)
    return packer.compress(stream) + packer.flush()


def gunzipped(packed: bytes, max_bytes: int) -> Optional[bytes]:
    """The stream back, or None when it is damaged or larger."""
    unpacker = zlib.decompressobj(_GZIP_FRAME)
    try:
        stream = unpacker.decompress(packed, max_bytes + 1)
    except zlib.error:
        return None
    return stream if unpacker.eof and not unpacker.unused_data and len(stream) <= max_bytes else None


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def _is_plain(path: str) -> bool:
    return bool(path) and not any(part in ("", ".", "..") for part in path.split("/")) and path.isprintable()
