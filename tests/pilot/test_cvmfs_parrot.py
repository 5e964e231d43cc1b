# SPDX-License-Identifier: Apache-2.0
"""Payloads under a tracer of paths: proot on any node, the real parrot_run on a Debian 11 node if PARROT_RUN is set.

The real one is given the repositories as a folder, so that it needs neither its CVMFS client nor a network.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lab.settings import OLDEST_NODE_RECIPE
from tests.pilot import debian_node
from tests.pilot.harness import Pilot
from tests.pilot.node import Faults, Node
from tests.pilot.test_cvmfs_traps import HELLO, TRAPPING, wait_until

PARROT_RUN = os.environ.get("PARROT_RUN", "")
MakePilot = Callable[..., Pilot]
MEBIBYTE = 1 << 20


@pytest.fixture(params=["standin", "real"])
def pilot(
    request: pytest.FixtureRequest,
    make_node: Callable[..., Node],
    make_pilot: MakePilot,
    parrot: Path,
    opened_repositories: Path,
    session_path: Path,
) -> Iterator[Pilot]:
    """A pilot on a node where nothing can be mounted, and that has parrot."""
    with ExitStack() as stack:
        if request.param == "standin":
            node = make_node(Faults(fuse="absent", userns=False))
        else:
            if not PARROT_RUN:
                pytest.skip("PARROT_RUN names no parrot_run")
            node = stack.enter_context(debian_node.running(OLDEST_NODE_RECIPE, session_path.parent, fuse=False))
            shutil.copy(PARROT_RUN, parrot.with_name("real"))
            parrot.write_text(f'#!/bin/sh\nexec {parrot.with_name("real")} -M /cvmfs={opened_repositories} "$@"\n')
        made = make_pilot(node, GWMS_BOSCO_PARROT=str(parrot), GWMS_BOSCO_CVMFS_RUNGS="native,parrot")
        outcome = made.run("cvmfs_setup")
        assert outcome.metrics.get("mode") == "parrot", outcome
        yield made
        made.end()


def test_reads_the_repository(pilot: Pilot) -> None:
    assert pilot.payload("cat", HELLO).stdout == b"hello from a stand-in repository\n"
    assert pilot.payload("pwd").stdout.decode().strip() == str(pilot.folder)


@pytest.mark.parametrize("rc", [0, 1, 42, 137, 255])
def test_exit_codes_pass(pilot: Pilot, rc: int) -> None:
    assert pilot.payload("sh", "-c", f"exit {rc}").returncode == rc


def test_a_mebibyte_and_odd_words_pass_unchanged(pilot: Pilot) -> None:
    data = os.urandom(MEBIBYTE)
    assert pilot.payload("cat", stdin=data).stdout == data
    words = ["a b", "", "*", "$HOME", "\\", "'\"", "x=y", "\n"]
    assert pilot.payload("printf", "%s|", *words).stdout.decode() == "|".join(words) + "|"


def started(pilot: Pilot, *command: str) -> tuple[subprocess.Popen[bytes], int]:
    """A payload that has said `ready`, and the process that HTCondor would know."""
    process = pilot.node.start(["setsid", pilot.run_with_cvmfs, *command], cwd=pilot.folder)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process, int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


@pytest.mark.parametrize("group", [False, True], ids=["alone", "group"])
def test_term_runs_the_payloads_trap(pilot: Pilot, group: bool) -> None:
    process, pid = started(pilot, "bash", "-c", TRAPPING)
    (os.killpg if group else os.kill)(pid, signal.SIGTERM)
    out, _ = process.communicate(timeout=10)
    assert (process.returncode, out) == (42, b"trapped\n")


def check_term_of_a_pilot(pilot: Pilot) -> None:
    """TERM to all of a pilot's group, itself and what it started, reaches the payload, and its code comes back."""
    # As glidein_startup.sh: it has a trap of its own and waits for what it started.
    startup = f"""
        trap : TERM
        {pilot.run_with_cvmfs} bash -c '{TRAPPING}' & payload=$!
        wait $payload
        while kill -0 $payload 2>/dev/null; do wait $payload; rc=$?; done
        echo "rc $rc"
    """
    process = pilot.node.start(["setsid", "bash", "-c", startup], cwd=pilot.folder)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    pid = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    os.killpg(pid, signal.SIGTERM)
    out, err = process.communicate(timeout=10)
    assert out.splitlines() == [b"trapped", b"rc 42"], (out, err)


def test_term_to_the_group_of_a_pilot_runs_the_payloads_trap(pilot: Pilot) -> None:
    check_term_of_a_pilot(pilot)


def test_a_payload_ends_when_its_starter_is_killed(pilot: Pilot) -> None:
    process, pid = started(pilot, "sh", "-c", "echo ready; while :; do sleep 0.07; done")
    os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=10)
    wait_until(lambda: pilot.node.run(["pgrep", "-f", "sleep 0.0[7]"]).stdout == b"")


def test_nothing_of_a_payload_stays_in_the_state_folder(pilot: Pilot) -> None:
    pilot.payload("true")
    assert not list((pilot.folder / "gwms_bosco").glob("signals.*"))


def test_a_payload_without_stdin_runs(pilot: Pilot) -> None:
    closed = pilot.node.run(["sh", "-c", f"{pilot.run_with_cvmfs} cat {HELLO} <&-"], cwd=pilot.folder)
    assert closed.stdout == b"hello from a stand-in repository\n", closed
