# SPDX-License-Identifier: Apache-2.0
"""How long a pilot's cvmfs_setup takes: the first rung works, every rung fails, every rung hangs.

The repository is a squashfs image behind a real FUSE client, as for the payloads' figures.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figures import BenchError, Figure, Section, timed
from tests.bench.standin_cvmfs import REPOSITORY, make_distribution, make_repository
from tests.pilot import node
from tests.pilot.harness import Outcome, Pilot

ROUNDS = 5
FIRST_RUNG_S = 2
WORST_S = 20
_NO_TOOLS = node.Faults(fuse="absent", userns=False)
_PATH = "/usr/bin:/bin"


def _set_up(on: node.Node, folder: Path, config: dict[str, str], path: str = "") -> tuple[float, Outcome]:
    """Run cvmfs_setup once in a new pilot's folder, with `path` before its PATH; time in s."""
    env = {"PATH": f"{path}:{_PATH}"} if path else None
    pilot = Pilot(on, folder, {"GWMS_BOSCO_CVMFS_REPOS": REPOSITORY, **config}, env)
    try:
        return timed(lambda: pilot.run("cvmfs_setup"))
    finally:
        pilot.end()


def _first(on: node.Node, folder: Path, mode: str, distribution: Path) -> Figure:
    """The rung `mode` alone, and it works.

    Raises:
        BenchError: it did not.
    """
    config = {"GWMS_BOSCO_CVMFSEXEC_DIR": str(distribution), "GWMS_BOSCO_CVMFS_RUNGS": mode}
    values = []
    for number in range(ROUNDS):
        seconds, outcome = _set_up(on, folder / f"{mode}-{number}", config)
        if outcome.metrics.get("mode") != mode:
            raise BenchError(f"no /cvmfs by {mode}: {outcome.detail or outcome.metrics}")
        values.append(seconds)
    return Figure(f"set-up, {mode} works", values, note=f"target {FIRST_RUNG_S} s")


def _worst(what: str, taken: tuple[float, Outcome]) -> Figure:
    """Every rung was tried and none worked.

    Raises:
        BenchError: one did.
    """
    seconds, outcome = taken
    if outcome.rc == 0:
        raise BenchError(f"a rung worked where none should: {outcome.metrics}")
    return Figure(f"set-up, every rung {what}", [seconds], note=f"target {WORST_S} s")


def _hang(on: node.Node, folder: Path, distribution: Path) -> Figure:
    """Each rung waits for an answer that never comes: from the node's /cvmfs, the client, singularity, parrot."""
    on.run(["pkill", "-STOP", "squashfuse"], user=0).check_returncode()
    silent = folder / "bin" / "singularity"
    silent.parent.mkdir()
    silent.write_text("#!/bin/sh\nexec sleep 600\n")
    silent.chmod(0o755)
    with (distribution / "dist" / "etc" / "cvmfs" / "default.conf").open("a") as settings:
        settings.write("STANDIN_FAULT=silent\n")
    config = {
        "GWMS_BOSCO_CVMFSEXEC_DIR": str(distribution),
        "GWMS_BOSCO_PARROT": str(silent),
        "GWMS_BOSCO_IMAGE": str(silent),
        "GWMS_BOSCO_CONTAINER": "payload",
    }
    return _worst("hangs", _set_up(on, folder / "hanging", config, str(silent.parent)))


def _figures(folder: Path) -> Iterator[Figure]:
    repositories = make_repository(folder / "repositories")
    distribution = make_distribution(folder / "cvmfsexec", repositories)
    with node.running(node.Faults(native=repositories)) as on:
        yield _first(on, folder, "native", distribution)
    with node.running() as on:
        for mode in ("userns", "fusermount"):
            yield _first(on, folder, mode, distribution)
    with node.running(_NO_TOOLS) as on:
        yield _worst("fails", _set_up(on, folder / "failing", {"GWMS_BOSCO_CVMFSEXEC_DIR": str(distribution)}))
    with node.running(node.Faults(native=repositories)) as on:
        yield _hang(on, folder, distribution)


def measure() -> Section:
    """Measure on test nodes; needs root.

    Raises:
        BenchError: a rung did not do what it should.
    """
    with tempfile.TemporaryDirectory(prefix="gwms-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        return Section("Ladder of a pilot", tuple(_figures(folder)))
