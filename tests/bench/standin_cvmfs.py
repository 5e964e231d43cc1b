# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for measurements of pilots: a squashfs image as repository, a cvmfsexec distribution with a FUSE client."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.pilot import node

REPOSITORY = "cms.cern.ch"
_STANDINS = Path(node.__file__).with_name("standins")


def make_repository(folder: Path) -> Path:
    """Make `folder` with the repository's image in it, and return it."""
    source = folder / "source"
    source.mkdir(parents=True)
    (source / "hello").write_text("hello\n")
    os.setxattr(source, "user.fqrn", REPOSITORY.encode())
    image = folder / f"{REPOSITORY}.squashfs"
    subprocess.run(["mksquashfs", source, image, "-quiet", "-no-progress"], check=True, stdout=subprocess.DEVNULL)
    return folder


def make_distribution(folder: Path, repositories: Path) -> Path:
    """Make a distribution in `folder` whose client mounts the images of `repositories`, and return it."""
    for name in ("usr/bin", "usr/lib", "etc/cvmfs/default.d", "etc/cvmfs/domain.d", "etc/cvmfs/config.d"):
        (folder / "dist" / name).mkdir(parents=True)
    for name in ("cvmfsexec", "mountrepo", "umountrepo", "singcvmfs"):
        shutil.copy(_STANDINS / "standin_cvmfsexec" / name, folder / name)
        (folder / name).chmod(0o755)
    client = folder / "dist" / "usr" / "bin" / "cvmfs2"
    shutil.copy(_STANDINS / "standin_cvmfs2", client)
    client.chmod(0o755)
    (folder / "dist" / "usr" / "repositories").symlink_to(repositories)
    for name in ("default.conf", "default.local"):
        (folder / "dist" / "etc" / "cvmfs" / name).write_text("CVMFS_HTTP_PROXY=DIRECT\n")
    return folder
