# SPDX-License-Identifier: Apache-2.0
"""A cache in an ext4 image, for nodes whose only big file system is a shared one: by fuse2fs, as cvmfsexec does it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pilot.harness import Pilot
from tests.pilot.node import UID, Faults, Node
from tests.pilot.test_cvmfs_traps import HELLO, processes, settings, wait_until

MakeNode = Callable[..., Node]
MakePilot = Callable[..., Pilot]
QUOTA_MB = 300


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    os.chown(folder, UID, UID)
    return folder


@pytest.fixture
def make(make_pilot: MakePilot, distribution: Path, images: Path) -> MakePilot:
    def pilot(node: Node, name: str = "glide", **config: str) -> Pilot:
        settled = {
            "GWMS_BOSCO_CVMFSEXEC_DIR": str(distribution),
            "GWMS_BOSCO_CVMFS_CACHE": f"image:{images}",
            "GWMS_BOSCO_CVMFS_QUOTA_MB": str(QUOTA_MB),
            **config,
        }
        return make_pilot(node, name, **settled)

    return pilot


@pytest.mark.parametrize("rung", ["userns", "fusermount", "mountrepo"])
def test_cache_lies_in_an_image_that_goes_with_the_pilot(
    make_node: MakeNode, make: MakePilot, images: Path, parrot: Path, rung: str
) -> None:
    node = make_node(Faults(userns=rung != "mountrepo"))
    pilot = make(node, GWMS_BOSCO_CVMFS_RUNGS=rung, GWMS_BOSCO_PARROT=str(parrot))
    outcome = pilot.run("cvmfs_setup")
    assert outcome.metrics.get("mode") == rung, outcome
    assert pilot.payload("cat", HELLO).stdout.startswith(b"hello")
    (image,) = images.glob("gwms-bosco-cache-*/image")
    assert pilot.published()["GWMS_BOSCO_CVMFS_CACHE"] == f'"{image.parent}"'
    status = image.stat()
    assert (image.parent.stat().st_mode & 0o777, status.st_mode & 0o777) == (0o700, 0o600)
    assert QUOTA_MB << 20 < status.st_size < (2 * QUOTA_MB) << 20
    assert status.st_blocks * 512 < status.st_size // 10
    lines = settings(pilot).splitlines()
    base = "/e2fs/cvmfscache" if rung == "userns" else f"{pilot.folder}/gwms_bosco/cvmfs/cache"
    assert f"CVMFS_CACHE_BASE={base}" in lines
    assert f"CVMFS_QUOTA_LIMIT={QUOTA_MB}" in lines
    # The client wrote there, and not into the folder below.
    shown = pilot.payload("ls", base).stdout if rung == "userns" else node.run(["ls", base]).stdout
    assert b"lock" in shown
    if rung == "userns":
        assert not (pilot.folder / "gwms_bosco" / "cvmfs" / "mnt" / "e2fs" / "cvmfscache").exists()
    pilot.end()
    wait_until(lambda: processes(node) == [])
    assert list(images.iterdir()) == []
    assert b"/gwms_bosco/" not in node.run(["cat", "/proc/self/mountinfo"]).stdout


@pytest.mark.parametrize("rung", ["userns", "fusermount"])
def test_two_pilots_have_two_images_and_a_killed_one_s_is_removed_by_the_next(
    make_node: MakeNode, make: MakePilot, images: Path, rung: str
) -> None:
    node = make_node()
    pilots = [make(node, name, GWMS_BOSCO_CVMFS_RUNGS=rung) for name in ("first", "second")]
    for pilot in pilots:
        assert pilot.run("cvmfs_setup").metrics.get("mode") == rung
    assert len(list(images.iterdir())) == 2
    assert node.run(["pkill", "-9", "-f", f"{pilots[0].folder}/gwms_bosco/cvmfs-holder"]).returncode == 0
    pilots[0].end()
    third = make(node, "third", GWMS_BOSCO_CVMFS_RUNGS=rung)
    assert "removed what the killed pilot" in third.run("cvmfs_setup").stdout
    assert len(list(images.iterdir())) == 2
    for pilot in (pilots[1], third):
        assert pilot.payload("cat", HELLO).stdout.startswith(b"hello")
        pilot.end()
    wait_until(lambda: list(images.iterdir()) == [])


@pytest.mark.parametrize("program", ["fuse2fs", "mke2fs"])
def test_a_node_without_the_program_says_so(make_node: MakeNode, make: MakePilot, images: Path, program: str) -> None:
    pilot = make(make_node(Faults(removed=(program,))), GWMS_BOSCO_CVMFS_RUNGS="userns,fusermount")
    outcome = pilot.run("cvmfs_setup")
    assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
    assert outcome.detail.count(f"no {program} program for a cache image") == 2
    assert list(images.iterdir()) == []


@pytest.mark.parametrize("rung", ["userns", "fusermount"])
def test_a_fuse2fs_that_fails_is_seen(
    make_node: MakeNode, make: MakePilot, tmp_path: Path, images: Path, rung: str
) -> None:
    """cvmfsexec goes on, and the cache would lie where no quota was thought of."""
    broken = tmp_path / "bin" / "fuse2fs"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'fuse2fs: too old' >&2\nexit 0\n")
    broken.chmod(0o755)
    pilot = make(make_node(), GWMS_BOSCO_CVMFS_RUNGS=rung)
    pilot.write("cvmfs_setup")
    path = {"PATH": f"{broken.parent}:/usr/bin:/bin"}
    ended = pilot.node.run(["./cvmfs_setup", "glidein_config", "entry"], cwd=pilot.folder, env=path)
    assert ended.returncode == 1
    assert b"the cache image" in ended.stderr, ended
    wait_until(lambda: processes(pilot.node) == [])
    assert list(images.iterdir()) == []
