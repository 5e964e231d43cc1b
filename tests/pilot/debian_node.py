# SPDX-License-Identifier: Apache-2.0
"""A worker node that stands on a root file system of the lab, for programs that this machine must not have."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.lab import rootfs
from tests.lab.settings import CHECKOUT, CHECKOUT_IN_HOST, Recipe, Settings
from tests.pilot.node import Faults, Node

_LAB = CHECKOUT / "tests" / "lab"
_START_S = 20.0
_ID = "pilot-tests/node"
# The machine's own device may be closed to users.
_OPEN_FUSE = "umount /dev/fuse 2>/dev/null; rm -f /dev/fuse; mknod -m 0666 /dev/fuse c 10 229"


@contextlib.contextmanager
def running(recipe: Recipe, folder: Path, fuse: bool = True) -> Iterator[Node]:
    """Bring up a node with `folder` at the same path as here, and take it down again.

    Args:
        fuse: whether users may open /dev/fuse; else the device is not there.

    Raises:
        LabError: the root file system cannot be built.
    """
    settings = Settings.resolve()
    rootfs.build(settings, recipe)
    with tempfile.TemporaryDirectory(prefix="gwms-node-") as state:
        env = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LAB_ID": _ID,
            "LAB_HOST": "node",
            "LAB_LOWER": rootfs.lower_layers(settings, recipe, full=True),
            "LAB_DIR": state,
            "LAB_CHECKOUT": str(CHECKOUT),
            "LAB_CHECKOUT_IN_HOST": CHECKOUT_IN_HOST,
            "LAB_SHARED": "",
        }
        command = ["unshare", "-m", "-p", "-u", "-i", "-f", "--kill-child", "sh", str(_LAB / "host_init.sh")]
        with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, start_new_session=True) as process:
            try:
                node = Node(_first_process(process), Faults())
                _bind(node, folder)
                root = ["sh", "-euc", _OPEN_FUSE if fuse else "umount /dev/fuse; rm -f /dev/fuse"]
                node.run(root, user=0).check_returncode()
                yield node
                os.kill(node.pid, signal.SIGKILL)
            finally:
                process.kill()


def _first_process(process: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        with contextlib.suppress(OSError, IndexError):
            if Path(f"/proc/{children[0]}/root/run/gwms-lab-host").read_text() == _ID + "\n":
                return int(children[0])
        time.sleep(0.02)
    raise RuntimeError("the test node did not come up")


def _bind(node: Node, folder: Path) -> None:
    node.run(["mkdir", "-p", str(folder)], user=0).check_returncode()
    argv = [sys.executable, str(_LAB / "bind_into.py"), str(folder), str(node.pid), str(folder)]
    subprocess.run(argv, check=True, timeout=_START_S)
