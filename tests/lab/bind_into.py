# SPDX-License-Identifier: Apache-2.0
"""Bind a folder of this machine into another mount name space, where its path does not exist: SOURCE PID TARGET.

mount(8) cannot: mount(2) looks for the source in the name space it mounts in. The mount goes when the name space does.
Runs as a program of its own, since only a process of one thread may change its mount name space.
"""

from __future__ import annotations

import ctypes
import os
import sys

# Source: linux/mount.h, linux/sched.h, asm-generic/unistd.h (Linux >= 5.2; the numbers are the same everywhere).
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT = 428, 429
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = 0x1, 0x4
_AT_FDCWD = -100
_CLONE_NEWNS = 0x00020000


def main(source: str, pid: int, target: str) -> None:
    """Clone the mount here, change to the other name space, attach it there.

    Raises:
        OSError: a path is not there, or we are not root.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def done(result: int, what: str) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), what)
        return result

    tree = done(libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(source), _OPEN_TREE_CLONE | os.O_CLOEXEC), source)
    space = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    done(libc.setns(space, _CLONE_NEWNS), f"/proc/{pid}/ns/mnt")
    where = os.fsencode(target)
    done(libc.syscall(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, where, _MOVE_MOUNT_F_EMPTY_PATH), target)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
