# SPDX-License-Identifier: Apache-2.0
"""Packages of a copy of the checkout, so that nobody's edits get between two builds, and what installing them takes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
PARTS = ("libs", "pilot", "factory", "frontend")
NOBODY = 65534
EPOCH_S = 1_750_000_000
"""Time stamp of everything in a package, in seconds."""
BUILD_DEADLINE_S = 120.0
GLIDEINWMS_FOLDERS = {
    "/etc/gwms-factory": "gfactory",
    "/etc/gwms-factory/hooks.reconfig.pre": "gfactory",
    "/var/lib/gwms-factory": "gfactory",
    "/etc/gwms-frontend": "frontend",
}
"""Of glideinWMS's own packages, which are in no registry: path -> owner."""
_LIBRARY = re.compile(r"(/\S+) \(0x")


def run(argv: Sequence[object], **more: str) -> str:
    """Run a program that has to succeed; its standard output."""
    env = {**os.environ, "LC_ALL": "C", **more}
    done = subprocess.run(
        [str(word) for word in argv], capture_output=True, text=True, timeout=BUILD_DEADLINE_S, env=env
    )
    assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def open_place() -> Iterator[Path]:
    """A folder that another user can reach, too; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix="gwms-rpm-", dir="/var/tmp") as folder:  # a name of its own
        Path(folder).chmod(0o755)
        yield Path(folder)


def copy_checkout(folder: Path) -> Path:
    """Copy what git knows or would take of the checkout, into a repository of its own."""
    git = ["git", "-c", "safe.directory=*", "-C", CHECKOUT, "ls-files", "-z", "--cached", "--others"]
    for name in run([*git, "--exclude-standard"]).split("\0"):
        source, target = CHECKOUT / name, folder / name
        if name and source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    run(["git", "init", "--quiet", folder])
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    return folder


def build(checkout: Path, folder: Path, launcher: Sequence[str] = ()) -> Path:
    """Build all packages.

    Args:
        launcher: program that starts the build as somebody, somewhere.

    Returns:
        The folder.
    """
    folder.mkdir(mode=0o755)
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    run([*launcher, checkout / "packaging" / "build-rpm", folder], SOURCE_DATE_EPOCH=str(EPOCH_S), HOME="/nonexistent")
    return folder


def version_of(checkout: Path) -> str:
    """The version in setup.cfg."""
    lines = (checkout / "setup.cfg").read_text().splitlines()
    return next(line.partition("=")[2].strip() for line in lines if line.startswith("version"))


def package(folder: Path, part: str) -> Path:
    """The one file of a subpackage."""
    (found,) = folder.glob(f"glideinwms-bosco-{part}-*.noarch.rpm")
    return found


def query(path: Path, *what: str) -> list[str]:
    """Lines that rpm tells of a package file."""
    return run(["rpm", "-qp", "--nosignature", *what, path]).splitlines()


def libraries(program: str) -> list[str]:
    """Paths of the loader and the libraries of a program."""
    return _LIBRARY.findall(run(["ldd", program]))
