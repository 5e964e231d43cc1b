# SPDX-License-Identifier: Apache-2.0
"""A pretended login node for the tests of the bundle's shell files: an installed version and fake batch commands.

A fake command logs its arguments to <name>.log, prints <name>.out and leaves with the code in <name>.rc.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from importlib import resources
from pathlib import Path
from typing import Optional

from glideinwms_bosco.bundle.layout import LAYOUTS

SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]
_FAKE = """#!/bin/sh
printf '%s\\n' "$*" >> "{data}/{name}.log"
[ ! -r "{data}/{name}.out" ] || cat "{data}/{name}.out"
exit "$(cat "{data}/{name}.rc" 2>/dev/null || echo 0)"
"""


class LoginNode:
    """`home` with bosco/versions/v, `bin` with the site's commands, `data` with what they say."""

    def __init__(self, directory: Path, batch_system: str) -> None:
        self.home, self.bin, self.data = directory / "home", directory / "bin", directory / "data"
        self.version = self.home / "bosco/versions/v"
        for place in (self.home / "bosco/log", self.bin, self.data, self.version / "etc", self.version / "libexec"):
            place.mkdir(parents=True)
        files = resources.files("glideinwms_bosco.bundle") / "files"
        for own in LAYOUTS[batch_system].own:
            place = self.version / own.path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(files.joinpath(*own.resource.split("/")).read_bytes())
            place.chmod(own.mode)
        for command in LAYOUTS[batch_system].passthrough:
            (self.version / "libexec" / batch_system / command).symlink_to("passthrough")
        (self.version / "libexec/blah_load_config.sh").write_text('. "$BOSCO_ROOT/etc/blah.config"\n')
        (self.version / "etc/blah.config").write_text(f"{batch_system}_binpath={self.bin}\n")
        self.configure()
        # No test waits: a pause is only written down.
        self.fake("sleep")

    def configure(self, *more: str) -> None:
        """Write etc/bosco.conf."""
        (self.version / "etc/bosco.conf").write_text("\n".join(["batch_system=x", "bosco_dir=bosco", *more]) + "\n")

    def fake(self, name: str, out: str = "", code: int = 0, directory: Optional[Path] = None) -> None:
        """Put a command on the login node, or change what it says."""
        (self.data / f"{name}.out").write_text(out)
        (self.data / f"{name}.rc").write_text(str(code))
        place = (directory or self.bin) / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(_FAKE.format(data=self.data, name=name))
        place.chmod(0o755)

    def calls(self, name: str) -> list[str]:
        """Arguments of each call of a fake command so far."""
        log = self.data / f"{name}.log"
        return log.read_text().splitlines() if log.exists() else []

    def environment(self) -> dict[str, str]:
        """What a login shell gives: our shim directory is not on PATH."""
        return {"HOME": str(self.home), "PATH": f"{self.bin}:{os.defpath}", "USER": "pilot"}

    def command(self, shell: str, path: str, *arguments: str) -> list[str]:
        """argv of a file of the bundle under a certain shell."""
        program = shutil.which(shell) or shell
        start = [program, "sh"] if shell == "busybox" else [program]
        return [*start, str(self.version / path), *arguments]

    def run(self, shell: str, path: str, *arguments: str) -> tuple[int, str]:
        """Exit status and stdout of a file of the bundle."""
        done = subprocess.run(
            self.command(shell, path, *arguments),
            env=self.environment(),
            capture_output=True,
            timeout=60,
            check=False,
            text=True,
        )
        return done.returncode, done.stdout

    @property
    def state(self) -> Path:
        """The private directory of lists and marks."""
        return self.home / "bosco/log/queue"

    def grow_old(self, name: str, seconds: int) -> None:
        """Make a list or mark older: its time stands in its first line."""
        place = self.state / name
        first, _, rest = place.read_text().partition("\n")
        place.write_text(f"BOSCO-QUEUE {int(first.split()[1]) - seconds}\n{rest}")


def mode(path: Path) -> int:
    """Permission bits."""
    return stat.S_IMODE(path.stat().st_mode)
