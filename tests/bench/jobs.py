# SPDX-License-Identifier: Apache-2.0
"""How long one test job takes from the schedd to a worker node and back; nothing else of ours is in its way."""

from __future__ import annotations

from tests.bench.figures import BenchError, Figure, Section
from tests.bench.workplace import SITE, Workplace
from tests.lab.process import wait_for

ROUNDS = 2
GONE_DEADLINE_S = 60.0


def _gahps(place: Workplace) -> bool:
    return place.lab.run("factory", ["pgrep", "-f", "remote_gahp"], check=False).returncode == 0


def measure(place: Workplace) -> Section:
    """Measure single jobs, each through ssh connections of its own; the bundle is deployed.

    Raises:
        BenchError: a job failed.
        LabError: the gridmanager of the job before does not end.
    """
    seen: dict[str, list[float]] = {"accepted": [], "ended": []}
    for _ in range(ROUNDS):
        wait_for("end of the gridmanager's connections", lambda: not _gahps(place), GONE_DEADLINE_S)
        result = SITE.test(place.lab)
        if not result["passed"]:
            raise BenchError(f"the test job failed: {result}")
        for event, times_s in seen.items():
            times_s.append(result["jobs"][0]["times_s"][event])
    return Section(
        "One job, `remote test`, seconds after its submission (lab knobs: short HTCondor intervals)",
        (
            Figure("accepted by Slurm", seen["accepted"]),
            Figure("ended, exit code and output back", seen["ended"]),
        ),
    )
