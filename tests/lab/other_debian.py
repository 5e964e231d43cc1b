# SPDX-License-Identifier: Apache-2.0
"""Programs of another Debian inside a host: they see its processes, network, sockets and some of its folders.

So a factory can have an older ssh: SO_PEERCRED and getppid() of what runs there mean the host's own process ids.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.lab import Lab
from tests.lab.process import checked
from tests.lab.settings import CHECKOUT_IN_HOST, HOST_PATH

_BIND_INTO = Path(__file__).with_name("bind_into.py")
_BIND_DEADLINE_S = 20.0
# The root file system is the cache's: whatever is written lands in memory.
_PARTS = """\
umask 022
mkdir "$1" "$1.parts"
mount -t tmpfs -o mode=755 parts "$1.parts"
mkdir "$1.parts/lower" "$1.parts/up" "$1.parts/work"
"""
_ROOT = """\
umask 022
root=$1; shift
mount -t overlay overlay -o "lowerdir=$root.parts/lower,upperdir=$root.parts/up,workdir=$root.parts/work" "$root"
cp /etc/hosts "$root/etc/hosts"
for folder; do
    mkdir -p "$root$folder"
    mount --rbind "$folder" "$root$folder"
done
"""
_REMOVE = 'umount -R "$1" && umount -R "$1.parts" && rmdir "$1" "$1.parts"'
_SYSTEM = ("/proc", "/dev", "/run", "/tmp", CHECKOUT_IN_HOST)


@dataclass(frozen=True)
class OtherDebian:
    """Another Debian's root in a host.

    Attributes:
        host: the lab host.
        root: where it is, as the host sees it.
    """

    lab: Lab
    host: str
    root: str

    def run(
        self, argv: Sequence[str], user: str, env: Mapping[str, str], timeout: float = 180.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of it; a failure is the caller's to judge."""
        account = self.lab.host(self.host).account(user)
        ids = f"--userspec={account.uid}:{account.gid}"
        clean = {"PATH": HOST_PATH, "HOME": account.home, "USER": user, "LOGNAME": user, **env}
        pairs = [f"{key}={value}" for key, value in clean.items()]
        inside = ["chroot", ids, "--groups=", self.root, "env", "-i", *pairs, *argv]
        return self.lab.run(self.host, inside, check=False, timeout=timeout)

    def remove(self) -> None:
        """Take it out of the host; without that it goes with the host."""
        self.lab.run(self.host, ["sh", "-euc", _REMOVE, "sh", self.root])


def provide(lab: Lab, host: str, like: str, root: str, folders: Sequence[str] = ()) -> OtherDebian:
    """Put the Debian that another host of the lab stands on into a host.

    Args:
        like: the other host; it must run, so that nothing removes what it stands on.
        root: folder that is made for it.
        folders: the host's folders that are to be seen there too.
    """
    lab.run(host, ["sh", "-euc", _PARTS, "sh", root])
    source, pid = lab.provide_rootfs(like), lab.host(host).pid1().pid
    argv = [sys.executable, str(_BIND_INTO), str(source), str(pid), f"{root}.parts/lower"]
    checked(argv, timeout=_BIND_DEADLINE_S)
    lab.run(host, ["sh", "-euc", _ROOT, "sh", root, *_SYSTEM, *folders])
    return OtherDebian(lab, host, root)
