# SPDX-License-Identifier: Apache-2.0
"""The factory's state folder: what root makes in there belongs to the folder's owner, as whom the factory runs.

Any room may import this, as it may `atomic`.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from pathlib import Path

from glideinwms_bosco.atomic import PUBLIC_MODE, write_atomic

FOLDER_MODE = 0o755
_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def make_folder(folder: Path, state_dir: Path, mode: int = FOLDER_MODE) -> None:
    """Make a folder below the state folder, with those on the way to it; one that is there stays.

    Args:
        mode: octal permission bits of the last one.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    give_to_owner(folder, state_dir)


def write_file(path: Path, content: bytes, state_dir: Path, mode: int = PUBLIC_MODE) -> bool:
    """Write a file below the state folder, as `write_atomic` does; its folder must be there.

    Args:
        mode: octal permission bits.

    Returns:
        False when it had this content already.

    Raises:
        OSError: it cannot be written, or not be given to the folder's owner.
    """
    changed = write_atomic(path, content, mode)
    give_to_owner(path, state_dir)
    return changed


def give_to_owner(path: Path, state_dir: Path) -> None:
    """Run by root: give a file or folder below the state folder, and the folders on the way, to the folder's owner.

    Only what is root's is given. Behind a link nothing is: the owner may have put it there, to be given what it leads
    to; the same goes for a second name of a file.

    Raises:
        OSError: it is not there, or is not below the state folder.
    """
    if os.geteuid() != 0:
        return
    owner = state_dir.stat()
    handle = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in path.relative_to(state_dir).parts:
            try:
                below = os.open(name, _OPEN_FLAGS, dir_fd=handle)
            except OSError as err:
                if err.errno == errno.ELOOP:
                    return
                raise
            os.close(handle)
            handle = below
            found = os.fstat(handle)
            alone = stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1)
            if found.st_uid == 0 and alone:
                os.fchown(handle, owner.st_uid, owner.st_gid)
    finally:
        os.close(handle)


def write_hint(error: OSError, state_dir: Path, otherwise: str) -> str:
    """What to do when something below the state folder cannot be written.

    Args:
        otherwise: the hint for anything but a lack of permission.
    """
    if error.errno not in (errno.EACCES, errno.EPERM):
        return otherwise
    try:
        uid = state_dir.stat().st_uid
    except OSError:
        return otherwise
    try:
        owner = pwd.getpwuid(uid).pw_name
    except KeyError:
        owner = f"uid {uid}"
    if uid != os.geteuid():
        return f"run this as {owner}, who owns {state_dir}"
    return f"another user has made something in there; as root: chown -R {owner}: {state_dir}"
