# SPDX-License-Identifier: Apache-2.0
"""The main job on real parts: site file, deploy, and jobs that go through remote_gahp, ssh and Slurm and come back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.lab import Lab
from tests.lab.operator import add_site, gwms_bosco, host_keys, key_of, pin
from tests.lab.sites import run_test

DEMO = Path(__file__).parents[2] / "factory_configs" / "sites" / "demo.yaml"
ACCOUNTS = ("pilot", "pilot2")
# More processes than a worker has CPUs, so that jobs wait in Slurm as they do on a real site.
MANY_JOBS = 100


@pytest.fixture(scope="module")
def demo(lab: Lab) -> Iterator[Lab]:
    """The demo site, deployed in both accounts, each by its own key."""
    add_site(lab, "demo", pin(DEMO.read_text(encoding="utf-8"), host_keys(lab, "login")))
    gwms_bosco(lab, "remote", "ssh-config")
    for account in ACCOUNTS:
        gwms_bosco(lab, "remote", "deploy", f"demo:{account}", "--key", key_of(account))
    yield lab


def logins(lab: Lab) -> int:
    """How often the login host has accepted an ssh connection so far."""
    return lab.read_file("login", "/var/log/sshd.log").count("Accepted publickey for ")


def await_true(condition: Callable[[], bool], what: str, deadline_s: float = 60.0) -> None:
    """Wait until a condition of another machine holds."""
    ends = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < ends, f"{what}: not within {deadline_s} s"
        time.sleep(0.3)


@pytest.mark.parametrize("exit_code", [0, 3])
@pytest.mark.parametrize("account", ACCOUNTS)
def test_job_runs_on_a_worker_as_the_account_and_its_exit_code_comes_back(
    demo: Lab, account: str, exit_code: int
) -> None:
    result = run_test(demo, f"demo:{account}", "--exit-code", str(exit_code), key=account)
    assert result["passed"], result
    (job,) = result["jobs"]
    assert job["node"] in ("worker1", "worker2")
    assert job["exit_code"] == exit_code
    assert job["user"] == account


def test_time_out_is_a_failure_with_the_gridmanager_s_reason(demo: Lab) -> None:
    result = run_test(demo, "demo:pilot", "--run-s", "100", timeout_s=1)
    assert not result["passed"]
    assert result["status"] == 3
    (job,) = result["jobs"]
    assert "not done after 1 s: " in job["failure"]


def test_key_that_is_not_accepted_is_shown_as_the_gridmanager_s_reason(demo: Lab) -> None:
    result = run_test(demo, "demo:pilot", key="pilot2", timeout_s=25)
    assert not result["passed"]
    (job,) = result["jobs"]
    assert "Permission denied" in job["failure"]


def test_many_jobs_at_once_share_two_ssh_connections(demo: Lab) -> None:
    await_true(lambda: gahps(demo) == 0, "gridmanager of earlier tests gone")
    before = logins(demo)
    result = run_test(demo, "demo:pilot", "--jobs", str(MANY_JOBS), "--exit-code", "3", timeout_s=300)
    assert result["passed"], result
    jobs = result["jobs"]
    assert len(jobs) == MANY_JOBS
    assert {job["exit_code"] for job in jobs} == {3}
    assert logins(demo) - before == 2


def gahps(lab: Lab) -> int:
    """Processes of remote_gahp on the factory."""
    done = lab.run("factory", ["pgrep", "-c", "-f", "remote_gahp"], check=False)
    return int(done.stdout or 0)


def slurm_jobs(lab: Lab) -> list[str]:
    """Ids of running Slurm jobs of user pilot."""
    return lab.run("login", ["squeue", "-h", "-u", "pilot", "-t", "RUNNING", "-o", "%i"]).stdout.split()


def submit_sleepers(lab: Lab, jobs: int) -> str:
    """Submit jobs as the factory submits pilots, with no output file whose absence would hold them; their cluster."""
    lines = [
        "universe = grid",
        f"grid_resource = batch slurm --rgahp-key {key_of('pilot')} --rgahp-nopass --rgahp-glite ~/bosco-cms/glite "
        "pilot@login",
        "executable = /bin/sleep",
        "transfer_executable = False",
        "arguments = 250",
        "output = out.$(Process)",
        "error = err.$(Process)",
        "log = sleepers.log",
        "should_transfer_files = YES",
        "when_to_transfer_output = ON_EXIT",
        f"queue {jobs}",
    ]
    lab.write_file("factory", "/home/factory/sleepers.sub", "\n".join(lines) + "\n", "factory:factory")
    return lab.run("factory", ["condor_submit", "-terse", "sleepers.sub"], user="factory").stdout.split(".")[0]


def test_job_that_did_not_end_by_itself_is_never_reported_as_success(demo: Lab) -> None:
    """Cancelled, killed, out of time, and its record lost with Slurm's memory: no way leads to exit code 0."""
    cluster = submit_sleepers(demo, 4)
    await_true(lambda: len(slurm_jobs(demo)) == 4, "four jobs running")
    cancelled, killed, late, lost = slurm_jobs(demo)
    demo.run("login", ["scancel", "-f", cancelled])
    for worker in ("worker1", "worker2"):
        demo.run(worker, ["pkill", "-KILL", "-f", f"/job0*{killed}/slurm_script"], check=False)
    demo.run("login", ["scontrol", "update", f"JobId={late}", "TimeLimit=1"])
    await_true(lambda: slurm_jobs(demo) == [lost], "three jobs ended", 150.0)
    # A controller that starts with a clean slate has forgotten every job, as after a lost spool directory.
    demo.run(
        "login",
        ["sh", "-c", "kill $(cat /run/slurmctld.pid); while pgrep -x slurmctld; do sleep .1; done; slurmctld -c"],
    )
    rows: list[list[str]] = []

    def all_ended() -> bool:
        fields = ["ProcId", "JobStatus", "ExitCode", "ExitBySignal"]
        text = demo.run("factory", ["condor_history", cluster, "-af", *fields], user="factory").stdout
        rows[:] = [line.split() for line in text.splitlines()]
        return len(rows) == 4

    await_true(all_ended, "four jobs ended for HTCondor", 120.0)
    assert {row[1] for row in rows} == {"4"}
    assert "0" not in {row[2] for row in rows}, rows
    await_true(lambda: demo.run("login", ["sinfo", "-h", "-o", "%T"]).stdout.strip() == "idle", "Slurm idle again")


def test_nothing_of_a_test_stays_in_the_schedd(demo: Lab) -> None:
    """Also after a test that gave up: its jobs are removed, on both sides."""
    run_test(demo, "demo:pilot", "--run-s", "250", timeout_s=20)
    await_true(
        lambda: demo.run("factory", ["condor_q", "-af", "ClusterId"], user="factory").stdout == "", "empty queue"
    )
    await_true(lambda: slurm_jobs(demo) == [], "no job in Slurm")
