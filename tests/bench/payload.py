# SPDX-License-Identifier: Apache-2.0
"""What the job wrapper costs a payload, against a bare exec of it in the same run: native, and in user name spaces.

The repository is a squashfs image behind a real FUSE client; the wrapper is the composed one, so what glideinWMS itself
puts around it is counted too.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.figures import BenchError, Figure, Section
from tests.bench.standin_cvmfs import REPOSITORY, make_distribution, make_repository
from tests.pilot import node
from tests.pilot.harness import Pilot
from tests.pilot.job_wrapper import compose

ROUNDS = 100
TARGET_MS = 15
# Both in turn, so that the machine's other work meets both alike.
_LOOP = """\
export _CONDOR_WRAPPER_ERROR_FILE=$PWD/failure
for ((i = 0; i < $2; i++)); do
    a=$EPOCHREALTIME
    /bin/true || exit 1
    b=$EPOCHREALTIME
    "$1" /bin/true || exit 1
    c=$EPOCHREALTIME
    echo "$(( ${b/./} - ${a/./} )) $(( ${c/./} - ${b/./} ))"
done
"""


def _overhead(on: node.Node, folder: Path, mode: str, **config: str) -> Figure:
    """Set a pilot up on a node and measure its payloads.

    Raises:
        BenchError: it did not get /cvmfs by `mode`, or a payload failed.
    """
    pilot = Pilot(on, folder / f"pilot-{mode}", {"GWMS_BOSCO_CVMFS_REPOS": REPOSITORY, **config})
    try:
        outcome = pilot.run("cvmfs_setup")
        if outcome.metrics.get("mode") != mode or pilot.run("payload_setup").rc:
            raise BenchError(f"no /cvmfs by {mode}: {outcome.detail or outcome.metrics}")
        loop = ["bash", "-c", _LOOP, "bash", str(compose(pilot)), str(ROUNDS)]
        done = on.run(loop, cwd=pilot.folder)
    finally:
        pilot.end()
    pairs = [tuple(map(int, line.split())) for line in done.stdout.decode().splitlines()]
    if done.returncode or len(pairs) != ROUNDS:
        raise BenchError(f"a payload failed: {done.stderr.decode()}")
    bare, wrapped = ([pair[i] / 1e6 for pair in pairs] for i in (0, 1))
    figure = Figure(f"payload by the wrapper, {mode}", wrapped, "s", "bare exec", bare)
    added_ms = (figure.value - (figure.instead_value or 0)) * 1e3
    note = f"adds {added_ms:.1f} ms (target {TARGET_MS} ms)"
    return Figure(figure.what, wrapped, "s", "bare exec", bare, note)


def measure() -> Section:
    """Measure both ways on test nodes; needs root.

    Raises:
        BenchError: a way did not work.
    """
    with tempfile.TemporaryDirectory(prefix="gwms-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        repositories = make_repository(folder / "repositories")
        distribution = make_distribution(folder / "cvmfsexec", repositories)
        with node.running(node.Faults(native=repositories)) as on:
            native = _overhead(on, folder, "native")
        with node.running() as on:
            userns = _overhead(on, folder, "userns", GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution))
    return Section(f"Payloads of a pilot, {ROUNDS} of each", (native, userns))
