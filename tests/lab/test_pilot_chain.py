# SPDX-License-Identifier: Apache-2.0
"""The whole way of a pilot: rendered entry, schedd, remote_gahp, Slurm, worker node, Global Pool, payload, and back."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.lab import payloads
from tests.lab.factory_pilots import local_words, prepare_jobs, submit_pilot
from tests.lab.lab import Lab
from tests.lab.operator import add_site, gwms_bosco, key_of
from tests.lab.pilot_site import GREETING, HELLO, site_file
from tests.lab.pilots import SCRATCH, PilotEntry
from tests.lab.settings import WORKERS
from tests.lab.waiting import await_true

Entries = Mapping[str, PilotEntry]
# Its trap reads /cvmfs once more, when the batch system has told everything in the job to end.
TRAPPING = (
    f'trap "sleep 1; cat {HELLO} >>/shared/pilot/{{0}}; exit 42" TERM; '
    "echo ready >>/shared/pilot/{0}; while :; do sleep 0.1; done"
)


@pytest.fixture(scope="module")
def entry(lab: Lab, entries: Entries) -> PilotEntry:
    """The entry of a site whose bundle is on the login node."""
    add_site(lab, *site_file(lab, "all"))
    gwms_bosco(lab, "remote", "ssh-config")
    gwms_bosco(lab, "remote", "deploy", "pilot-all", "--key", key_of("pilot"))
    prepare_jobs(lab)
    return entries["all"]


def left_on_workers(lab: Lab) -> str:
    """Processes and files of pilots."""
    script = f"pgrep -a -u pilot; find {SCRATCH} -mindepth 1 | head"
    return "".join(lab.run(worker, ["sh", "-c", script], check=False).stdout for worker in WORKERS)


def test_payload_runs_in_a_pilot_that_the_factory_submitted(lab: Lab, entry: PilotEntry) -> None:
    pilot = submit_pilot(lab, entry, "chain", [*local_words(entry, "chain", idle_s=15), SCRATCH])
    payload = payloads.submit(lab, pilot, f"cat {HELLO} && cat && exit 42")
    pilot.await_joined()
    ad = pilot.ad("Machine", "HAS_CVMFS", "GWMS_BOSCO_CVMFS") or {}
    assert ad["Machine"] in WORKERS
    assert (ad["HAS_CVMFS"], ad["GWMS_BOSCO_CVMFS"]) == (True, "userns")
    assert payload.exit_code() == 42, payload.stderr()
    assert payload.stdout() == f"{GREETING}input\n"
    # It ends when idle, and what it has printed comes back.
    await_true(lambda: "Normal termination (return value 0)" in pilot.log(), "pilot's job ended", 60.0)
    output = pilot.output()
    assert "=== cvmfs_setup: 0" in output
    assert '<metric name="mode"' in output
    await_true(lambda: left_on_workers(lab) == "", "nothing is left on the workers", 10.0)


def test_removed_pilot_lets_its_payload_end_with_cvmfs_in_place(lab: Lab, entry: PilotEntry) -> None:
    """Slurm sends TERM to everything in the job, also to what holds the mounts."""
    pilot = submit_pilot(lab, entry, "removed", [*local_words(entry, "removed", idle_s=300), SCRATCH])
    payload = payloads.submit(lab, pilot, TRAPPING.format(pilot.name))
    pilot.await_joined()
    said = f"/shared/pilot/{pilot.name}"
    await_true(lambda: "ready" in lab.run("login", ["cat", said], check=False).stdout, "payload runs", 30.0)
    pilot.remove()
    await_true(lambda: left_on_workers(lab) == "", "nothing is left on the workers", 60.0)
    payload.remove()
    assert lab.read_file("login", said) == f"ready\n{GREETING}"
