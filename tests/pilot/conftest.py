# SPDX-License-Identifier: Apache-2.0
"""Nodes, repositories and distributions for tests of pilot scripts."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Optional

import pytest

from tests.pilot import node
from tests.pilot.harness import Pilot

REPOSITORY = "cms.cern.ch"
NOTHING_LACKS = node.Faults()
STANDINS = Path(__file__).with_name("standins")
CVMFSEXEC_SCRIPTS = os.environ.get("CVMFSEXEC_SCRIPTS") or os.environ.get("CVMFSEXEC_DIST", "")
"""A checkout of cvmfsexec, or a distribution made with it: its real scripts run over the stand-in client."""


def _needs_mounts() -> None:
    lacking = node.machine_lacks()
    if lacking:
        pytest.skip(f"this machine has no {lacking}")


def _folder(above: Optional[Path] = None) -> Iterator[Path]:
    """A folder that the node's user can reach; pytest's own are closed, and closed again by a second run."""
    folder = Path(tempfile.mkdtemp(prefix="gwms-pilot-", dir=above))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def session_path() -> Iterator[Path]:
    """A folder for a whole run, which holds those of its tests."""
    yield from _folder()


@pytest.fixture
def tmp_path(session_path: Path) -> Iterator[Path]:
    """In place of pytest's."""
    yield from _folder(session_path)


@pytest.fixture(scope="session")
def repositories(session_path: Path) -> Path:
    """A folder with one squashfs image for each repository, with the attribute a real client gives."""
    folder = session_path / "repositories"
    source = folder / "source"
    (source / "SITECONF").mkdir(parents=True)
    (source / "hello").write_text("hello from a stand-in repository\n")
    for name in (REPOSITORY, "oasis.opensciencegrid.org"):
        os.setxattr(source, "user.fqrn", name.encode())
        subprocess.run(["mksquashfs", source, folder / f"{name}.squashfs", "-quiet", "-no-progress"], check=True)
    return folder


@pytest.fixture(params=["standin", "real-scripts"])
def distribution(request: pytest.FixtureRequest, tmp_path: Path, repositories: Path) -> Path:
    """A cvmfsexec distribution; the client in it mounts the images of `repositories`."""
    _needs_mounts()
    scripts = STANDINS / "standin_cvmfsexec"
    if request.param == "real-scripts":
        if not CVMFSEXEC_SCRIPTS:
            pytest.skip("neither CVMFSEXEC_SCRIPTS nor CVMFSEXEC_DIST names the scripts of cvmfsexec")
        scripts = Path(CVMFSEXEC_SCRIPTS)
    dist = tmp_path / "cvmfsexec"
    dist.mkdir()
    for name in ("cvmfsexec", "mountrepo", "umountrepo", "singcvmfs"):
        shutil.copy(scripts / name, dist / name)
        (dist / name).chmod(0o755)
    (dist / "dist" / "usr" / "bin").mkdir(parents=True)
    (dist / "dist" / "usr" / "lib").mkdir()
    shutil.copy(STANDINS / "standin_cvmfs2", dist / "dist" / "usr" / "bin" / "cvmfs2")
    (dist / "dist" / "usr" / "bin" / "cvmfs2").chmod(0o755)
    (dist / "dist" / "usr" / "repositories").symlink_to(repositories)
    for name in ("default.d", "domain.d", "config.d"):
        (dist / "dist" / "etc" / "cvmfs" / name).mkdir(parents=True)
    (dist / "dist" / "etc" / "cvmfs" / "default.conf").write_text("")
    # No final newline: the real scripts would lose what is appended.
    (dist / "dist" / "etc" / "cvmfs" / "default.local").write_text("CVMFS_HTTP_PROXY=DIRECT")
    return dist


@pytest.fixture(scope="session")
def opened_repositories(repositories: Path, session_path: Path) -> Path:
    """The images' content as folders."""
    folder = session_path / "opened"
    folder.mkdir()
    for image in repositories.glob("*.squashfs"):
        subprocess.run(["unsquashfs", "-quiet", "-no-progress", "-d", folder / image.stem, image], check=True)
    return folder


@pytest.fixture
def parrot(tmp_path: Path, opened_repositories: Path) -> Path:
    """The stand-in of parrot_run, with the repositories it finds."""
    shutil.copy(STANDINS / "standin_parrot_run", tmp_path / "parrot_run")
    (tmp_path / "parrot_run").chmod(0o755)
    (tmp_path / "repositories").symlink_to(opened_repositories)
    return tmp_path / "parrot_run"


@pytest.fixture
def make_node() -> Iterator[Callable[[node.Faults], node.Node]]:
    """Bring up nodes; all end with the test."""
    if os.geteuid() != 0:
        pytest.skip("a test node needs root")
    with ExitStack() as stack:

        def make(faults: node.Faults = NOTHING_LACKS) -> node.Node:
            if faults.native is not None:
                _needs_mounts()
            return stack.enter_context(node.running(faults))

        yield make


@pytest.fixture
def make_pilot(tmp_path: Path) -> Callable[..., Pilot]:
    """Make a pilot: `make_pilot(node, name="p1", KEY=value...)`."""

    def make(on: node.Node, name: str = "glide_pilot", env: Optional[dict[str, str]] = None, **config: str) -> Pilot:
        config = {"GWMS_BOSCO_CVMFS_REPOS": REPOSITORY, **config}
        return Pilot(on, tmp_path / name, config, env)

    return make


@pytest.fixture(name="node")
def faultless_node(make_node: Callable[..., node.Node]) -> node.Node:
    """A node that lacks nothing."""
    return make_node()


@pytest.fixture(params=["userns", "fusermount"])
def mode(request: pytest.FixtureRequest) -> str:
    """A rung of cvmfsexec that has a holder."""
    return str(request.param)
