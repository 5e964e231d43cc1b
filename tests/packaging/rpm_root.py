# SPDX-License-Identifier: Apache-2.0
"""An empty root that packages are installed into by rpm itself, with their scriptlets.

It holds a shell, the program that makes users, and the accounts and folders of glideinWMS's own packages, which are in
no registry. systemctl writes down how it was called.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from tests.packages import GLIDEINWMS_FOLDERS, libraries, run

PROGRAMS = ("/usr/bin/busybox", "/usr/bin/systemd-sysusers", "/usr/sbin/logrotate")
APPLETS = ("sh", "gzip", "kill")
ACCOUNTS = {"root": 0, "gfactory": 991, "frontend": 992}
_SYSTEMCTL = '#!/bin/sh\necho "$*" >> /systemctl.log\n'


class RpmRoot:
    """A root folder and its rpm database."""

    def __init__(self, top: Path) -> None:
        self.top = top
        for folder in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "var/lib/rpm", "tmp", "dev"):
            (top / folder).mkdir(parents=True)
        top.chmod(0o755)
        for link in ("bin", "sbin", "lib", "lib64"):
            (top / link).symlink_to(f"usr/{link}")
        (top / "dev/null").touch()
        self._copy_programs()
        for name, uid in ACCOUNTS.items():
            self._append("/etc/passwd", f"{name}:x:{uid}:{uid}::/:/sbin/nologin\n")
            self._append("/etc/group", f"{name}:x:{uid}:\n")
        for folder, owner in GLIDEINWMS_FOLDERS.items():
            self.path(folder).mkdir(parents=True, exist_ok=True)
            shutil.chown(self.path(folder), ACCOUNTS[owner], ACCOUNTS[owner])

    def _copy_programs(self) -> None:
        for program in PROGRAMS:
            for file in (program, *libraries(program)):
                target = self.path(file)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)
        for applet in APPLETS:
            self.path(f"/usr/bin/{applet}").symlink_to("busybox")
        self.write("/usr/bin/systemctl", _SYSTEMCTL, 0o755)

    def path(self, name: str) -> Path:
        """Where a file of the root lies."""
        return self.top / name.lstrip("/")

    def _append(self, name: str, text: str) -> None:
        with self.path(name).open("a") as stream:
            stream.write(text)

    def write(self, name: str, text: str, mode: int, owner: str = "root") -> None:
        """Write a file as an administrator or one of our commands would."""
        path, uid = self.path(name), self.accounts()[owner]
        path.write_text(text)
        path.chmod(mode)
        shutil.chown(path, uid, uid)

    def rpm(self, *words: object) -> str:
        """Run rpm on the root; what its scriptlets could not do makes it fail."""
        argv = ["rpm", "--root", self.top, "--dbpath", "/var/lib/rpm", "--nosignature", *words]
        return run(argv, PATH="/usr/bin:/usr/sbin")

    def install(self, packages: Iterable[Path]) -> None:
        """Install, or upgrade to, packages without what they require."""
        self.rpm("-U", "--nodeps", *packages)

    def erase(self, *names: str) -> None:
        """Remove packages."""
        self.rpm("-e", "--nodeps", *names)

    def systemctl_calls(self) -> list[str]:
        """How systemctl was called since the last time."""
        log = self.path("/systemctl.log")
        calls = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return calls

    def accounts(self) -> dict[str, int]:
        """Dict user name -> uid."""
        file = self.path("/etc/passwd")
        rows = [line.split(":") for line in file.read_text().splitlines()] if file.exists() else []
        return {row[0]: int(row[2]) for row in rows} or {"root": 0}

    def group_names(self) -> dict[int, str]:
        """Dict gid -> group name."""
        rows = [line.split(":") for line in self.path("/etc/group").read_text().splitlines()]
        return {int(row[2]): row[0] for row in rows}

    def described(self, name: str) -> tuple[str, str, int]:
        """Owner, group and mode of a file."""
        found = self.path(name).lstat()
        owners = {uid: user for user, uid in self.accounts().items()}
        return owners[found.st_uid], self.group_names()[found.st_gid], found.st_mode & 0o7777
