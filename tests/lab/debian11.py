# SPDX-License-Identifier: Apache-2.0
"""Run a command in this checkout under Debian 11, which has the Python of EL9: `python3 -m tests.lab.debian11 CMD`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from tests.lab import rootfs
from tests.lab.settings import CHECKOUT, CHECKOUT_IN_HOST, HOST_PATH, UNIT_TEST_RECIPE, LabError, Settings

_ENTER = Path(__file__).with_name("enter_debian.sh")
# What belongs to the Python, the make and the locales of this machine.
_NOT_THERE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "LC_ALL")


def environment(here: Mapping[str, str]) -> dict[str, str]:
    """Return this environment as it makes sense there."""
    kept = {name: value for name, value in here.items() if name not in _NOT_THERE}
    return {**kept, "PATH": HOST_PATH, "LANG": "C.UTF-8"}


def become(argv: Sequence[str]) -> NoReturn:
    """Become the command; root only.

    Raises:
        LabError: the root file system cannot be built.
    """
    settings = Settings.resolve()
    rootfs.build(settings, UNIT_TEST_RECIPE)
    root = rootfs.rootfs_path(settings, UNIT_TEST_RECIPE) / "root"
    point = settings.cache / "debian11"
    point.mkdir(exist_ok=True)
    enter = ["unshare", "--mount", "sh", str(_ENTER), str(point), str(root), str(CHECKOUT), CHECKOUT_IN_HOST]
    os.execvpe(enter[0], [*enter, *argv], environment(os.environ))  # noqa: S606 - an argv list, no shell wanted


if __name__ == "__main__":
    try:
        become(sys.argv[1:])
    except LabError as error:
        sys.exit(str(error))
