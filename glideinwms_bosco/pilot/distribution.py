# SPDX-License-Identifier: Apache-2.0
"""The archives that pilots bring along: a cvmfsexec distribution, and a folder of CA certificates.

Source: cvmfsexec 4.51 makedist (what the self-extracting file holds, and what it leaves out of it).
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Optional

from glideinwms_bosco.errors import PilotError
from glideinwms_bosco.pilot.tree import MAX_TREE_BYTES, Member, Tree, read_file, read_folder, read_tar, tar_stream

# A makedist folder is a checkout as well; of that only these are needed.
_TOOLS = frozenset(("cvmfsexec", "mountrepo", "umountrepo", "singcvmfs", "cvmfs2-wrapper"))
_DIST = "dist"
# Caches, sockets and mount points of whoever has run it where it was made.
_USED = re.compile(r"dist/(var/run/cvmfs|var/lib/cvmfs|cvmfs)/.")
_TAR_BELOW = b"\n__TAR_BELOW__\n"
_HEADER_BYTES = 4096
"""The script in front of a self-extracting file has 400."""
_EXECUTABLE = 0o100
MAX_CA_BYTES = 64 << 20
"""The IGTF's certificates with their revocation lists are about 10 MiB."""
_CA_FILE = re.compile(r"[A-Za-z0-9_.@+=-]{1,255}")
_CA_HASH = re.compile(r"[0-9a-f]{8}\.[0-9]")
_PRIVATE = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----")


def pack_cvmfsexec(path: Path, sha256: Optional[str] = None) -> bytes:
    """Read a distribution and give it as a tar stream with `cvmfsexec`, `dist/` and the like on top.

    Args:
        path: makedist's output folder, its self-extracting file, or a tar file of such a folder.
        sha256: what a file, or the tar stream of a folder, must have; only a folder may go without.

    Raises:
        PilotError: unreadable, too large, not a distribution, or of another digest.
    """
    try:
        if path.is_dir():
            stream = tar_stream(_distribution(read_folder(path, _wanted), str(path)))
            _check_digest(stream, sha256, f"{path} packed")
            return stream
        content = read_file(path, MAX_TREE_BYTES)
    except OSError as err:
        raise PilotError(f"{path}: cannot be read: {err.strerror}", "check name and permissions") from None
    if sha256 is None:
        found = hashlib.sha256(content).hexdigest()
        raise PilotError(f"{path}: is a file and needs a sha256", f"if it is the right one: sha256: {found}")
    _check_digest(content, sha256, str(path))
    if content.startswith(b"#!"):
        start = content.find(_TAR_BELOW, 0, _HEADER_BYTES)
        if start < 0:
            raise PilotError(f"{path}: is a script, and none that makedist -o has made", "name a makedist output")
        content = content[start + len(_TAR_BELOW) :]
    return tar_stream(_distribution(_without_top(read_tar(content, str(path))), str(path)))


def pack_ca(folder: Path) -> bytes:
    """Read a folder of CA certificates (`<hash>.0`, `.r0`, `.signing_policy` ...) as a tar stream, links as files.

    Raises:
        PilotError: unreadable, too large, without a hashed certificate, or with a private key in it.
    """
    tree: dict[str, Member] = {}
    left = MAX_CA_BYTES
    try:
        for path in sorted(folder.iterdir()):
            # What is not named like a file of a CA directory is somebody's backup or editor file.
            if not path.is_file() or not _CA_FILE.fullmatch(path.name) or path.name.startswith("."):
                continue
            content = read_file(path, left)
            left -= len(content)
            if _PRIVATE.search(content):
                # The factory's web server gives this archive to anybody.
                raise PilotError(f"{path}: holds a private key", "name a folder of CA certificates only")
            tree[path.name] = Member(0o644, content=content)
    except OSError as err:
        raise PilotError(f"{err.filename or folder}: cannot be read: {err.strerror}", "check its permissions") from None
    if not any(_CA_HASH.fullmatch(name) for name in tree):
        raise PilotError(
            f"{folder}: has no certificate under its hash, such as 1d879c6c.0", "run `openssl rehash` there"
        )
    return tar_stream(tree)


def _wanted(path: str) -> bool:
    top = path.split("/")[0]
    return (path in _TOOLS or top == _DIST) and not _USED.match(path)


def _without_top(tree: Tree) -> Tree:
    """The tree without the one folder that everything lies in, if there is such a one."""
    tops = {path.split("/")[0] for path in tree}
    if len(tops) != 1 or _DIST in tops:
        return tree
    (top,) = tops
    return {path[len(top) + 1 :]: member for path, member in tree.items() if path != top}


def _distribution(tree: Tree, origin: str) -> Tree:
    wanted = {path: member for path, member in tree.items() if _wanted(path)}
    dist = wanted.get(_DIST, Member(0o755))
    if not dist.is_folder or not any(path.startswith(f"{_DIST}/") for path in wanted):
        raise PilotError(f"{origin}: has no dist folder, so it is no makedist output", "run makedist first")
    tools = [name for name in ("cvmfsexec", "singcvmfs") if name in wanted]
    if not tools:
        raise PilotError(f"{origin}: has neither cvmfsexec nor singcvmfs beside dist", "name the folder above dist")
    for name in tools:
        if wanted[name].content is None or not wanted[name].mode & _EXECUTABLE:
            raise PilotError(f"{origin}: {name} is no executable file", "make the distribution again")
    return wanted


def _check_digest(content: bytes, sha256: Optional[str], what: str) -> None:
    if sha256 is not None and (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise PilotError(f"{what}: has the sha256 {found}", f"the site file says {sha256}; which one is right?")
