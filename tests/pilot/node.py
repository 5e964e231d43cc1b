# SPDX-License-Identifier: Apache-2.0
"""A worker node for tests: name spaces of its own, a user, and faults by switches. Needs root.

Processes of a node end with it, since they live in its PID name space.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

INIT = Path(__file__).with_name("node_init.sh")
UID = 2001
START_S = 10.0
RUN_S = 60.0
FUSE_DEVICE = (10, 229)
"""Source: Linux Documentation/admin-guide/devices.txt."""
# The limit counts for the whole tree of name spaces below the one in which it is set.
_ONE_LEVEL = (
    *("unshare", "-U", f"--map-user={UID}", f"--map-group={UID}", "--keep-caps"),
    *("sh", "-c", 'echo 1 >/proc/sys/user/max_user_namespaces && exec "$@"', "sh"),
    *("setpriv", "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all"),
)


@functools.lru_cache(maxsize=1)
def machine_lacks() -> str:
    """What this machine has none of, of all that mounts on a node stand on; empty when it has everything."""
    if os.geteuid() != 0:
        return "root"
    if subprocess.run(["unshare", "-Urm", "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        return "user name spaces"
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(OSError):
        device = f"{folder}/fuse"
        os.mknod(device, 0o600 | stat.S_IFCHR, os.makedev(*FUSE_DEVICE))
        os.close(os.open(device, os.O_RDWR))
        return ""
    return "FUSE device"


@dataclass(frozen=True)
class Faults:
    """What the node lacks. `fuse` is open, denied or absent; `native` a folder of squashfs images mounted in /cvmfs.

    `one_level` lets its user make user name spaces, but none within one.
    """

    fuse: str = "open"
    userns: bool = True
    one_level: bool = False
    native: Optional[Path] = None
    removed: tuple[str, ...] = ()
    no_new_privs: bool = False


class Node:
    """A running node; `pid` is its first process."""

    def __init__(self, pid: int, faults: Faults) -> None:
        self.pid = pid
        self._faults = faults

    def argv(self, command: Sequence[str], user: int = UID) -> list[str]:
        """The command line that runs `command` on the node as `user` (numeric id)."""
        enter = ["nsenter", "-t", str(self.pid), "-m", "-p", "-r", "--"]
        if user:
            if self._faults.one_level:
                command = [*_ONE_LEVEL, *command]
            enter += ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
            if self._faults.no_new_privs:
                enter.append("--no-new-privs")
        return [*enter, *command]

    def run(
        self,
        command: Sequence[str],
        *,
        cwd: Path = Path("/"),
        env: Optional[Mapping[str, str]] = None,
        stdin: Optional[bytes] = None,
        user: int = UID,
        deadline_s: float = RUN_S,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end; stdin is /dev/null unless bytes are given."""
        with self.start(command, cwd=cwd, env=env, stdin=stdin is not None, user=user) as process:
            try:
                out, err = process.communicate(stdin, timeout=deadline_s)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def start(
        self,
        command: Sequence[str],
        *,
        cwd: Path = Path("/"),
        env: Optional[Mapping[str, str]] = None,
        stdin: bool = False,
        user: int = UID,
    ) -> subprocess.Popen[bytes]:
        """Start a command; the caller ends it."""
        words = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", **(env or {})}
        # The folder is entered on the node, as its mounts differ.
        inside = [
            "env",
            "--default-signal",
            "-i",
            "-C",
            str(cwd),
            *(f"{name}={value}" for name, value in words.items()),
            *command,
        ]
        return subprocess.Popen(
            self.argv(inside, user),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )


@contextlib.contextmanager
def running(faults: Faults = Faults()) -> Iterator[Node]:
    """Bring up a node and take it down again."""
    with tempfile.TemporaryDirectory(prefix="gwms-node-") as root:
        command = [
            "unshare",
            "-m",
            "-p",
            "-f",
            "--kill-child",
            "--propagation",
            "private",
            str(INIT),
            root,
            faults.fuse,
        ]
        command += ["yes" if faults.userns else "no", str(faults.native or "-"), ":".join(faults.removed)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
            try:
                assert process.stdout is not None
                ready, _, _ = select.select([process.stdout], [], [], START_S)
                if not ready or process.stdout.readline() != b"ready\n":
                    raise RuntimeError("the test node did not come up")
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                yield Node(int(children[0]), faults)
                os.kill(int(children[0]), signal.SIGKILL)
            finally:
                process.kill()
