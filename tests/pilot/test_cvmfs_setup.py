# SPDX-License-Identifier: Apache-2.0
"""cvmfs_setup on nodes that allow one way or another, under the contract of validation scripts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pilot.harness import Pilot
from tests.pilot.node import Faults, Node

MakeNode = Callable[..., Node]
MakePilot = Callable[..., Pilot]
HELLO = "/cvmfs/cms.cern.ch/hello"


def test_takes_a_native_repository(make_node: MakeNode, make_pilot: MakePilot, repositories: Path) -> None:
    pilot = make_pilot(make_node(Faults(native=repositories)))
    outcome = pilot.run("cvmfs_setup")
    assert (outcome.rc, outcome.status) == (0, "OK"), outcome
    assert pilot.published()["GWMS_BOSCO_CVMFS"] == '"native"'
    assert pilot.published()["HAS_CVMFS"] == "True"
    assert pilot.published()["GWMS_BOSCO_CVMFS_REPOS"] == '"cms.cern.ch"'
    assert pilot.payload("cat", HELLO).stdout.startswith(b"hello")


def test_mounts_in_user_name_spaces(make_node: MakeNode, make_pilot: MakePilot, distribution: Path) -> None:
    pilot = make_pilot(make_node(), GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution))
    outcome = pilot.run("cvmfs_setup")
    assert (outcome.rc, outcome.status) == (0, "OK"), outcome
    assert outcome.metrics["mode"] == "userns"
    assert "native: cms.cern.ch:" in pilot.config()["GWMS_BOSCO_CVMFS_WHY"]
    read = pilot.payload("cat", HELLO)
    assert (read.returncode, read.stdout[:5]) == (0, b"hello"), read


def test_refuses_where_nothing_works(make_node: MakeNode, make_pilot: MakePilot, distribution: Path) -> None:
    pilot = make_pilot(make_node(Faults(fuse="absent", userns=False)), GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution))
    outcome = pilot.run("cvmfs_setup")
    assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
    assert "userns: unshare: unshare failed: Operation not permitted" in outcome.detail
    assert "mountrepo: no /dev/fuse" in outcome.detail
    assert pilot.published()["HAS_CVMFS"] == "False"


def test_mounts_by_fusermount(make_node: MakeNode, make_pilot: MakePilot, distribution: Path) -> None:
    pilot = make_pilot(
        make_node(), GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS="native,fusermount"
    )
    outcome = pilot.run("cvmfs_setup")
    assert outcome.metrics["mode"] == "fusermount", outcome
    assert pilot.payload("cat", HELLO).stdout[:5] == b"hello"


def test_mounts_by_fusermount_alone_and_shows_it_by_parrot(
    make_node: MakeNode, make_pilot: MakePilot, distribution: Path, parrot: Path
) -> None:
    pilot = make_pilot(
        make_node(Faults(userns=False)),
        GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution),
        GWMS_BOSCO_PARROT=str(parrot),
    )
    outcome = pilot.run("cvmfs_setup")
    assert outcome.metrics["mode"] == "mountrepo", outcome
    assert pilot.payload("cat", HELLO).stdout[:5] == b"hello"


def test_reads_by_parrot_where_nothing_can_be_mounted(make_node: MakeNode, make_pilot: MakePilot, parrot: Path) -> None:
    pilot = make_pilot(make_node(Faults(fuse="absent", userns=False)), GWMS_BOSCO_PARROT=str(parrot))
    outcome = pilot.run("cvmfs_setup")
    assert outcome.metrics["mode"] == "parrot", outcome
    assert pilot.payload("cat", HELLO).stdout[:5] == b"hello"


def test_does_not_believe_a_parrot_that_shows_nothing(make_node: MakeNode, make_pilot: MakePilot, parrot: Path) -> None:
    pilot = make_pilot(
        make_node(Faults(fuse="absent", userns=False)),
        GWMS_BOSCO_PARROT=str(parrot),
        GWMS_BOSCO_CVMFS_REPOS="cms.cern.ch,nosuch.cern.ch",
    )
    outcome = pilot.run("cvmfs_setup")
    assert (outcome.rc, outcome.status) == (1, "ERROR")
    assert "parrot: nosuch.cern.ch:" in outcome.detail


def test_goes_on_without_cvmfs_when_it_is_not_required(make_node: MakeNode, make_pilot: MakePilot) -> None:
    pilot = make_pilot(make_node(Faults(fuse="absent")), GWMS_BOSCO_CVMFS_REQUIRED="False")
    outcome = pilot.run("cvmfs_setup")
    assert (outcome.rc, outcome.status) == (0, "OK"), outcome
    assert pilot.published()["HAS_CVMFS"] == "False"
    assert pilot.published()["GWMS_BOSCO_CVMFS_REPOS"] == '"none"'
    assert outcome.metrics["repositories"] == "none"
    assert "userns: no /dev/fuse" in pilot.published()["GWMS_BOSCO_CVMFS_WHY"]
    assert pilot.payload("true").returncode == 125


@pytest.mark.parametrize("rung", ["native", "userns", "fusermount"])
def test_one_pilot_after_another_takes_the_only_rung(
    make_node: MakeNode, make_pilot: MakePilot, distribution: Path, repositories: Path, rung: str
) -> None:
    node = make_node(Faults(native=repositories if rung == "native" else None))
    for number in range(3):
        pilot = make_pilot(node, f"p{number}", GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS=rung)
        assert pilot.run("cvmfs_setup").metrics.get("mode") == rung
        pilot.end()
