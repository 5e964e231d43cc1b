# SPDX-License-Identifier: Apache-2.0
"""Who does what the page of the five-minute start says, with nothing but the packages, has run a job and an entry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import packaged
from tests.lab.follow import Follower, add_gfactory, name_hosts
from tests.lab.lab import Lab
from tests.lab.operator import CONFIG_D, SITES
from tests.lab.waiting import await_no_gahp
from tests.pages import steps_of

PAGE = "start.md"


@pytest.fixture
def factory(lab: Lab) -> Iterator[Lab]:
    """A factory with glideinWMS and HTCondor and without us."""
    name_hosts(lab, "factory")
    add_gfactory(lab)
    with packaged.bare(lab, "factory"):
        packaged.add_glideinwms(lab, "factory", "gfactory")
        yield lab
        await_no_gahp(lab)


def test_five_minutes_lead_from_packages_to_a_job_and_an_entry(factory: Lab, rpms: Path) -> None:
    steps = steps_of(PAGE)
    follower = Follower(factory, rpms, {})
    follower.follow(steps)
    said = {step.line: follower.outputs.get((PAGE, step.line), "") for step in steps}
    (checked,) = [said[step.line] for step in steps if "site check" in step.text]
    assert "ok: 1 site file, 1 entry" in checked
    (ran,) = [said[step.line] for step in steps if "remote test" in step.text]
    assert "passed: 1 job ran as pilot, exit code 3 and output came back" in ran
    assert "CMSHTPC_T3_XX_Example" in factory.read_file("factory", f"{CONFIG_D}/50-example.xml")
    assert "LOGIN_HOST_KEY" not in factory.read_file("factory", f"{SITES}/example.yaml")
    assert packaged.module_path(factory, "factory").startswith("/usr/lib/python3")
    packaged.verify(factory, "factory")
