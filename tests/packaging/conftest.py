# SPDX-License-Identifier: Apache-2.0
"""Packages are built once; each test that installs them has an empty root of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.packages import PARTS, build, copy_checkout, open_place, package
from tests.packaging.rpm_root import RpmRoot

OLD_VERSION = "0.0.1"


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A folder that another user can reach, too; pytest's own are closed."""
    with open_place() as folder:
        yield folder


@pytest.fixture(scope="session")
def checkout(place: Path) -> Path:
    """The release."""
    return copy_checkout(place / "checkout")


@pytest.fixture(scope="session")
def rpms(checkout: Path, place: Path) -> Path:
    """Folder with the packages of the release."""
    return build(checkout, place / "rpms")


@pytest.fixture(scope="session")
def old_rpms(checkout: Path, place: Path) -> Path:
    """Folder with the packages of an earlier release, which had another relay.conf and one program more."""
    old = place / "old"
    shutil.copytree(checkout, old)
    for file, before, after in (
        ("setup.cfg", "\nversion = ", f"\nversion = {OLD_VERSION}\n# "),
        ("glideinwms_bosco/__init__.py", "__version__ = ", f'__version__ = "{OLD_VERSION}"  # '),
        ("factory_configs/relay.conf", '"port": 8620', '"port": 8619'),
        ("factory_configs/hooks.reconfig.pre/50-gwms-bosco", "#!/bin/sh\n", "#!/bin/sh\n# of an earlier release\n"),
    ):
        text = (old / file).read_text()
        assert text.count(before) == 1, file
        (old / file).write_text(text.replace(before, after))
    (old / "validation_scripts" / "gone_setup").write_text("#!/bin/bash\n")
    return build(old, place / "old-rpms")


def packages(folder: Path) -> list[Path]:
    """The files that rpm installs."""
    return [package(folder, part) for part in PARTS]


@pytest.fixture(scope="session")
def make_root(place: Path) -> Callable[[], AbstractContextManager[RpmRoot]]:
    """Makes empty roots, and takes each away again."""
    if os.geteuid() != 0:
        pytest.skip("rpm --root needs root: it gives files to other users and runs scriptlets in a chroot")

    @contextmanager
    def made() -> Iterator[RpmRoot]:
        with tempfile.TemporaryDirectory(prefix="root-", dir=place) as folder:
            yield RpmRoot(Path(folder))

    return made


@pytest.fixture
def root(make_root: Callable[[], AbstractContextManager[RpmRoot]]) -> Iterator[RpmRoot]:
    """An empty root."""
    with make_root() as made:
        yield made


@pytest.fixture(scope="module")
def installed(make_root: Callable[[], AbstractContextManager[RpmRoot]], rpms: Path) -> Iterator[RpmRoot]:
    """A root with all packages, to look at."""
    with make_root() as made:
        made.install(packages(rpms))
        yield made


@pytest.fixture
def changeable(root: RpmRoot, rpms: Path) -> RpmRoot:
    """A root with all packages, for one test alone."""
    root.install(packages(rpms))
    return root
