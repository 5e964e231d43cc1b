# SPDX-License-Identifier: Apache-2.0
"""An HTCondor release tarball, read in place: checked as a whole before the first file is used, never extracted."""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Optional

from glideinwms_bosco.bundle.manifest import MAX_FILE_BYTES
from glideinwms_bosco.bundle.tree import SourceFile, follow
from glideinwms_bosco.errors import SourceError

MAX_TARBALL_BYTES = 1 << 30
MAX_UNPACKED_BYTES = 4 << 30
MAX_MEMBERS = 100_000
MAX_NAME_CHARS = 1024
CHUNK_BYTES = 1 << 20
_GZIP_FRAME = 31
_DAMAGED = "fetch the tarball again; a release tarball of HTCondor does not look like this"


class TarballTree:
    """The files of a release tarball; paths are relative to its one top directory.

    Owns the stream it is given and a private temporary file; close() ends both.
    """

    kind = "HTCondor release tarball"

    def __init__(self, stream: IO[bytes], sha256: str, name: str) -> None:
        """Check the digest first, then every member.

        Raises:
            SourceError: wrong digest, not a tar.gz, a member that no release has, a size limit.
        """
        self.place = f"from {name}"
        self.label = f"{self.kind} {self.place}"
        self._members: dict[str, tarfile.TarInfo] = {}
        self._plain: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the tree
        try:
            with stream:
                self._check_digest(stream, sha256)
                self._unpack(stream)
            self._tar = tarfile.open(fileobj=self._plain, mode="r:")  # noqa: SIM115  # lives as long as the tree
            self._read_members()
        except (tarfile.TarError, EOFError, ValueError, OSError) as error:
            self._plain.close()
            raise self._error(f"cannot be read ({error})") from error
        except SourceError:
            self._plain.close()
            raise

    def close(self) -> None:
        """Release the temporary file."""
        self._tar.close()
        self._plain.close()

    def find(self, candidates: Sequence[str]) -> Optional[SourceFile]:
        """See SourceTree.find.

        Raises:
            SourceError: a link on the way leaves the tarball, or a file is larger than MAX_FILE_BYTES.
        """
        for candidate in candidates:
            member = self._members.get(follow(candidate, self._read_link, self._error(f"link {candidate} leaves it")))
            if member is not None and member.islnk():
                member = self._members.get(self._relative(member.linkname))
            if member is None or not member.isreg():
                continue
            if member.size > MAX_FILE_BYTES:
                raise self._error(f"{candidate} is larger than {MAX_FILE_BYTES} bytes")
            content = self._tar.extractfile(member)
            if content is not None:
                return SourceFile(candidate, content.read())
        return None

    def _error(self, text: str) -> SourceError:
        return SourceError(f"{self.label}: {text}", _DAMAGED)

    def _check_digest(self, stream: IO[bytes], sha256: str) -> None:
        state = hashlib.sha256()
        size = 0
        for chunk in iter(lambda: stream.read(CHUNK_BYTES), b""):
            size += len(chunk)
            if size > MAX_TARBALL_BYTES:
                raise self._error(f"larger than {MAX_TARBALL_BYTES} bytes")
            state.update(chunk)
        if state.hexdigest() != sha256:
            raise SourceError(
                f"{self.label}: sha256 is {state.hexdigest()}, the site file says {sha256}",
                "compare with the release page; do not use this file",
            )
        stream.seek(0)

    def _unpack(self, stream: IO[bytes]) -> None:
        unpacker = zlib.decompressobj(_GZIP_FRAME)
        total = 0
        for chunk in iter(lambda: stream.read(CHUNK_BYTES), b""):
            rest = chunk
            while rest and not unpacker.eof:
                try:
                    plain = unpacker.decompress(rest, CHUNK_BYTES)
                except zlib.error as error:
                    raise self._error("not a gzip file") from error
                total += len(plain)
                if total > MAX_UNPACKED_BYTES:
                    raise self._error(f"unpacks to more than {MAX_UNPACKED_BYTES} bytes")
                self._plain.write(plain)
                rest = unpacker.unconsumed_tail
        self._plain.write(unpacker.flush())
        if not unpacker.eof:
            raise self._error("cut short")
        self._plain.seek(0)

    def _read_members(self) -> None:
        found: dict[str, tarfile.TarInfo] = {}
        for member in self._tar:
            if len(found) >= MAX_MEMBERS:
                raise self._error(f"more than {MAX_MEMBERS} members")
            self._check_member(member)
            found[self._normal(member.name)] = member
        tops = {name.split("/", 1)[0] for name in found if name}
        self._top = f"{tops.pop()}/" if len(tops) == 1 else ""
        self._members = {self._relative(name): member for name, member in found.items()}
        for name, member in self._members.items():
            self._check_link(name, member)

    def _check_member(self, member: tarfile.TarInfo) -> None:
        name = member.name
        if len(name) > MAX_NAME_CHARS or not name.isprintable():
            raise self._error("a member has a name that no release has")
        if name.startswith("/") or ".." in name.split("/"):
            raise self._error(f"member {name} would lie outside")
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            raise self._error(f"member {name} is a device or another special file")

    def _check_link(self, name: str, member: tarfile.TarInfo) -> None:
        """Refuse a link that climbs out. An absolute target is refused only when a file is looked for through it:
        nothing is extracted, so it can do no harm, and packages hold some (/etc/...)."""
        if member.islnk():
            if ".." in member.linkname.split("/") or member.linkname.startswith("/"):
                raise self._error(f"link {name} leaves it")
        elif member.issym() and not member.linkname.startswith("/"):
            depth = len(name.split("/")) - 1
            for part in member.linkname.split("/"):
                depth += -1 if part == ".." else int(part not in ("", "."))
                if depth < 0:
                    raise self._error(f"link {name} leaves it")

    def _normal(self, name: str) -> str:
        return "/".join(part for part in name.split("/") if part not in ("", "."))

    def _relative(self, name: str) -> str:
        name = self._normal(name)
        return name[len(self._top) :] if name.startswith(self._top) else name

    def _read_link(self, path: str) -> Optional[str]:
        member = self._members.get(path)
        return member.linkname if member is not None and member.issym() else None


def open_local(path: str) -> IO[bytes]:
    """Open a tarball on this machine.

    Raises:
        SourceError: it cannot be opened.
    """
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise SourceError(f"cannot read tarball {path}: {error.strerror}", "correct the path") from error
