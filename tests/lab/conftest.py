# SPDX-License-Identifier: Apache-2.0
"""One lab for all lab tests of a run. As root a lab that cannot start is a failure; without root tests are skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.lab.closed_site import ClosedSite, prepare_closed
from tests.lab.grid_jobs import end_all_jobs
from tests.lab.keyless import forget_relay
from tests.lab.lab import Lab
from tests.lab.operator import SITES, prepare_factory
from tests.lab.pilot_site import prepare, prepare_pool
from tests.lab.pilots import PilotEntry
from tests.lab.settings import CLOSED_PROFILE
from tests.packages import build, copy_checkout, open_place


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here as a lab test and skip it, by name, where the lab cannot run."""
    for item in items:
        if "/lab/" in item.nodeid:
            item.add_marker(pytest.mark.lab)
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="the lab needs root: network name spaces, overlay mounts"))


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A fresh lab with a prepared factory, taken down at the end."""
    made = Lab(f"gwmspt{os.getpid()}")
    made.up()
    try:
        prepare_factory(made)
        yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def closed() -> Iterator[ClosedSite]:
    """A closed site in a lab of its own, taken down at the end of the module."""
    made = Lab(f"gwmsclosed{os.getpid()}", CLOSED_PROFILE)
    made.up()
    try:
        yield prepare_closed(made)
    finally:
        made.down()


@pytest.fixture(scope="session")
def rpms() -> Iterator[Path]:
    """Folder with the packages of the checkout."""
    with open_place() as place:
        yield build(copy_checkout(place / "checkout"), place / "rpms")


@pytest.fixture(scope="session")
def pool(lab: Lab) -> Lab:
    """The lab with the Global Pool."""
    prepare_pool(lab)
    return lab


@pytest.fixture(scope="session")
def entries(pool: Lab) -> Mapping[str, PilotEntry]:
    """The Global Pool is up, and entries are rendered whose pilots run for real."""
    return prepare(pool)


@pytest.fixture(scope="module", autouse=True)
def _nothing_of_other_modules(request: pytest.FixtureRequest) -> None:
    """Let the factory know nothing of what another module left behind: which modules share a lab, chance decides.

    Sites are checked beside each other, so those of another module, with other keys for the same host, would clash;
    with a relay.conf there, commands without a key ask the relay. Jobs are left by a test that failed, and would make
    the next ones fail.
    """
    if "lab" in request.fixturenames and request.module.__name__ != "tests.lab.test_lab_lifecycle":
        lab: Lab = request.getfixturevalue("lab")
        lab.run("factory", ["find", SITES, "-name", "*.yaml", "-delete"])
        forget_relay(lab)
        end_all_jobs(lab)
