# SPDX-License-Identifier: Apache-2.0
"""One lab for all lab tests of a run. As root a lab that cannot start is a failure; without root tests are skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.lab.lab import Lab
from tests.lab.operator import prepare_factory


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
