# SPDX-License-Identifier: Apache-2.0
"""Upgrade and rollback under running pilots, between HTCondor 23.9 and 25.14; what a redeploy costs on the network.

The pilots are jobs of `remote test`: schedd, gridmanager, remote_gahp, ssh, blahpd and batch system are all real.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.lab.lab import Lab
from tests.lab.operator import USER, gwms_bosco, key_of
from tests.lab.other_htcondor import OTHER_ROOT, bring_other_htcondor
from tests.lab.settings import WORKERS
from tests.lab.sites import LabSite, wake_sleepers
from tests.lab.test_batch_systems import GRID_ENGINE
from tests.lab.waiting import await_no_gahp, await_true

PILOTS = 20
RUN_S = 300
"""Longer than what is done under the pilots, which is not waited for: they are woken."""
TEST_TIMEOUT_S = 600
# ssh's key exchange, our programs and their answers; the bundle has 4 MB.
QUIET_BYTES = 120_000


def command(lab: Lab, verb: str, site: str, *options: str, check: bool = True) -> dict[str, Any]:
    """A remote command's report."""
    done = gwms_bosco(lab, "remote", verb, site, "--key", key_of("pilot"), "--json", *options, check=check)
    report: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"stderr": done.stderr}
    return {**report, "status": done.returncode}


def running(lab: Lab) -> int:
    """Pilots that run, as the schedd knows."""
    return lab.run("factory", ["condor_q", "-af", "JobStatus"], user=USER).stdout.split().count("2")


@contextmanager
def pilots(lab: Lab, site: LabSite, count: int) -> Iterator[Callable[[], dict[str, Any]]]:
    """Jobs of a site, all running; the function has them end and gives the result."""
    argv = ["gwms-bosco", "remote", "test", site.name, "--key", key_of("pilot"), "--json"]
    argv += ["--timeout", str(TEST_TIMEOUT_S), "--jobs", str(count), "--run-s", str(RUN_S)]
    process = lab.popen("factory", argv, user=USER)

    def result() -> dict[str, Any]:
        assert wake_sleepers(lab, WORKERS if site.system == "slurm" else [site.host]) >= count, "all were asleep"
        out, err = process.communicate(timeout=TEST_TIMEOUT_S)
        assert out, err
        found: dict[str, Any] = json.loads(out)
        return found

    try:
        await_true(lambda: running(lab) == count, f"{count} pilots running", 90.0)
        yield result
    finally:
        process.kill()
        process.communicate()


def versions_used(lab: Lab, site: str) -> dict[str, set[str]]:
    """Names of the programs that use each version."""
    found = command(lab, "versions", site)
    return {version["digest"]: {use["name"] for use in version["uses"]} for version in found["versions"]}


def upgrade_and_roll_back(lab: Lab, site: LabSite, count: int) -> None:
    """Both under the same pilots, of which none may be lost, held or without output."""
    bring_other_htcondor(lab)
    site.add(lab)
    old = site.deploy(lab)["digest"]
    other = LabSite(**{**site.__dict__, "install": {"htcondor": {"root": OTHER_ROOT}}})
    with pilots(lab, site, count) as result:
        other.add(lab)
        report = other.deploy(lab)
        new = report["digest"]
        assert (report["action"], report["previous_digest"]) == ("installed", old)
        assert new != old
        used = versions_used(lab, site.name)
        assert {"blahpd.bin", "condor_ft-gahp."} <= used[old], "the running gahps keep their version"
        assert command(lab, "gc", site.name, "--keep", "1")["removed"] == {}
        assert command(lab, "verify", site.name)["clean"]
        refused = command(lab, "remove", site.name, check=False)
        assert refused["status"] == 3
        assert f"{count} job(s) of the account in {site.system}" in refused["stderr"]
        back = command(lab, "rollback", site.name)
        assert (back["digest"], back["before"]) == (old, new)
        again = command(lab, "rollback", site.name)
        assert (again["digest"], again["before"]) == (new, old)
        assert running(lab) == count, "no pilot has ended meanwhile"
        found = result()
    assert found["passed"], found
    assert [job["exit_code"] for job in found["jobs"]] == [0] * count
    await_no_gahp(lab)
    # A new gahp takes the version of now; so this is the other way: pilots of 25.14 while 23.9 comes back.
    with pilots(lab, other, count) as result:
        assert "blahpd.bin" in versions_used(lab, site.name)[new]
        assert command(lab, "rollback", site.name)["digest"] == old
        found = result()
    assert found["passed"], found
    await_no_gahp(lab)


def test_twenty_pilots_survive_upgrade_and_rollback(lab: Lab) -> None:
    site = LabSite("cycle")
    upgrade_and_roll_back(lab, site, PILOTS)
    # Nothing needs it any more.
    await_true(lambda: not lab.run("login", ["squeue", "-h", "-u", "pilot"]).stdout.strip(), "Slurm is empty")
    done = command(lab, "remove", site.name)
    assert (done["action"], len(done["versions"]), done["left"]) == ("removed", 2, [])
    assert lab.run("login", ["ls", "-d", "bosco-cycle"], user="pilot", check=False).returncode != 0


def test_pilots_on_grid_engine_survive(lab: Lab) -> None:
    lab.ensure("login-sge")
    batch = {"queue": "batch", "settings": GRID_ENGINE}
    upgrade_and_roll_back(lab, LabSite("cycle-sge", "login-sge", "sge", batch=batch), 2)


def test_pilots_on_htcondor_survive(lab: Lab) -> None:
    lab.ensure("login-condor")
    upgrade_and_roll_back(lab, LabSite("cycle-condor", "login-condor", "condor"), 2)


def received_bytes(lab: Lab) -> int:
    """What the login host's network card has received so far."""
    return int(lab.read_file("login", "/sys/class/net/eth0/statistics/rx_bytes"))


def test_only_what_is_new_travels(lab: Lab) -> None:
    """Counted at the login host's network card, with everything that ssh adds."""
    site = LabSite("bytes")
    site.add(lab)
    at = received_bytes(lab)
    first = site.deploy(lab)
    whole = received_bytes(lab) - at
    assert whole > first["bytes_sent"] > 2_000_000
    at = received_bytes(lab)
    assert (site.deploy(lab)["action"], received_bytes(lab) - at < QUIET_BYTES) == ("unchanged", True)
    changed = LabSite("bytes", batch={"settings": {"bosco_test": "1"}})
    changed.add(lab)
    at = received_bytes(lab)
    report = changed.deploy(lab)
    few = received_bytes(lab) - at
    assert (report["action"], report["files_sent"]) == ("installed", 1)
    assert few < 2 * QUIET_BYTES, "etc/blah.config has 5 kB"
    print(f"\nfirst {whole} bytes, one file changed {few} bytes, of which archive {report['bytes_sent']}")


def test_lease_tells_the_other_login_nodes_of_a_gahp(lab: Lab) -> None:
    """Two login nodes with one home: the gahp is on one, the question is asked on the other."""
    site = LabSite("lease")
    site.add(lab)
    digest = site.deploy(lab)["digest"]
    with pilots(lab, site, 1) as result:
        names = lab.run("login", ["ls", "bosco-lease/leases"], user="pilot").stdout.split()
        assert len([name for name in names if re.fullmatch(rf"{digest}@\d+\.\d+@login", name)]) == 2
        # The workers share the home, and one of them stands for the second login node.
        script = 'cd "$HOME/bosco-lease/leases"; for f in *; do [ -e "/proc/${f#*@}" ] || echo "$f"; done'
        assert len(lab.run("worker1", ["sh", "-c", script], user="pilot").stdout.split()) == 2
        assert result()["passed"]
    await_no_gahp(lab)


@pytest.mark.parametrize("full", [False, True])
def test_launcher_needs_no_lease(lab: Lab, full: bool) -> None:
    """A home that cannot be written to starts blahpd all the same."""
    site = LabSite("nolease")
    site.add(lab)
    site.deploy(lab)
    place = "/shared/pilot/bosco-nolease/leases"
    lab.run("login", ["sh", "-c", f"rm -rf {place}"])
    if full:
        lab.run("login", ["sh", "-c", f"mkdir {place} && mount -t tmpfs -o nr_inodes=1 tmpfs {place}"])
    try:
        said = lab.run("login", ["bosco-nolease/glite/bin/blahpd"], user="pilot", input="QUIT\n")
        assert said.stdout.startswith("$GahpVersion")
        assert said.stderr == ""
    finally:
        if full:
            lab.run("login", ["umount", place])
