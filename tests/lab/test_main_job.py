# SPDX-License-Identifier: Apache-2.0
"""The main job on real parts: site file, deploy, and jobs that go through remote_gahp, ssh and Slurm and come back."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.grid_jobs import end_all_jobs
from tests.lab.lab import Lab
from tests.lab.operator import add_site, gwms_bosco, host_keys, key_of, pin
from tests.lab.settings import WORKERS
from tests.lab.sites import LabSite, run_test, wake_sleepers
from tests.lab.waiting import await_no_gahp, await_true

DEMO = Path(__file__).parents[2] / "factory_configs" / "sites" / "demo.yaml"
ACCOUNTS = ("pilot", "pilot2")
# More processes than a worker has CPUs, so that jobs wait in Slurm as they do on a real site.
MANY_JOBS = 100
LONG_S = 250
"""Longer than any test here."""


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
    # The job itself says which bundle it came through.
    assert job["version"] == result["deployed"]
    assert result["untested"] is None


def test_time_out_is_a_failure_with_the_gridmanager_s_reason(demo: Lab) -> None:
    result = run_test(demo, "demo:pilot", "--run-s", "100", timeout_s=1)
    assert not result["passed"]
    assert result["status"] == 3
    (job,) = result["jobs"]
    assert "not done after 1 s: " in job["failure"]


def test_reason_of_the_gridmanager_is_shown_when_the_remote_side_does_not_start(demo: Lab) -> None:
    site = LabSite("nostart")
    site.add(demo)
    site.deploy(demo)
    demo.run("login", ["sh", "-c", "chmod 0 bosco-nostart/versions/*/libexec/blahpd.bin"], user="pilot")
    result = site.test(demo, timeout_s=25)
    assert not result["passed"]
    (job,) = result["jobs"]
    assert "libexec/blahpd.bin: Permission denied" in job["failure"]


def test_key_that_is_not_accepted_is_told_at_once(demo: Lab) -> None:
    result = run_test(demo, "demo:pilot", key="pilot2")
    assert result["status"] == 3
    assert "pilot@login:22 does not accept the key" in result["stderr"]


def test_many_jobs_at_once_share_two_ssh_connections(demo: Lab) -> None:
    await_no_gahp(demo)
    before = logins(demo)
    result = run_test(demo, "demo:pilot", "--jobs", str(MANY_JOBS), "--exit-code", "3", timeout_s=300)
    assert result["passed"], result
    jobs = result["jobs"]
    assert len(jobs) == MANY_JOBS
    assert {job["exit_code"] for job in jobs} == {3}
    # One look at the account by the command itself, then blahpd and ft-gahp for all the jobs.
    assert logins(demo) - before == 1 + 2


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


def scripts(lab: Lab) -> int:
    """How many jobs' scripts run. They begin, and their output is there, after Slurm calls the job running.

    HTCondor holds a job without its output, so one that is cancelled before that is held.
    """
    argv = ["pgrep", "-a", "-f", "/job[0-9]*/slurm_script"]
    said = "".join(lab.run(worker, argv, check=False).stdout for worker in WORKERS)
    return len(set(re.findall(r"/job([0-9]+)/slurm_script", said)))


@pytest.fixture
def sleepers(demo: Lab) -> Iterator[str]:
    """Four jobs that run; their cluster. None is left afterwards, for Slurm or the schedd."""
    cluster = submit_sleepers(demo, 4)
    try:
        await_true(lambda: len(slurm_jobs(demo)) == scripts(demo) == 4, "four jobs running")
        yield cluster
    finally:
        end_all_jobs(demo)


def test_job_that_did_not_end_by_itself_is_never_reported_as_success(demo: Lab, sleepers: str) -> None:
    """Cancelled, killed, out of time, and its record lost with Slurm's memory: no way leads to exit code 0."""
    cancelled, killed, late, lost = slurm_jobs(demo)
    demo.run("login", ["scancel", "-f", cancelled])
    for worker in WORKERS:
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
        text = demo.run("factory", ["condor_history", sleepers, "-af", *fields], user="factory").stdout
        rows[:] = [line.split() for line in text.splitlines()]
        return len(rows) == 4

    def seen() -> str:
        queue = demo.run("factory", ["condor_q", "-af", "ProcId", "JobStatus", "HoldReason"], user="factory").stdout
        log = demo.run("factory", ["sh", "-c", "tail -n 300 /home/factory/condor/log/GridmanagerLog*"]).stdout
        # All of it: what is shown of a log is its end.
        print(f"{rows=} {cancelled=} {killed=} {late=} {lost=}", queue, log, sep="\n")
        return queue + demo.run("login", ["squeue"]).stdout

    await_true(all_ended, "four jobs ended for HTCondor", 300.0, seen)
    assert {row[1] for row in rows} == {"4"}
    assert "0" not in {row[2] for row in rows}, rows
    await_true(lambda: demo.run("login", ["sinfo", "-h", "-o", "%T"]).stdout.strip() == "idle", "Slurm idle again")


def test_nothing_of_a_test_stays_in_the_schedd(demo: Lab) -> None:
    """Also after a test that gave up: its jobs are removed, on both sides."""
    run_test(demo, "demo:pilot", "--run-s", str(LONG_S), timeout_s=20)
    await_true(
        lambda: demo.run("factory", ["condor_q", "-af", "ClusterId"], user="factory").stdout == "", "empty queue"
    )
    await_true(lambda: slurm_jobs(demo) == [], "no job in Slurm")


def test_account_without_a_bundle_is_told_at_once(demo: Lab) -> None:
    site = LabSite("nobundle")
    site.add(demo)
    done = gwms_bosco(demo, "remote", "test", "nobundle", "--key", key_of("pilot"), check=False)
    assert done.returncode == 3
    assert "there is no ~/bosco-nobundle/glite; run `gwms-bosco remote deploy` first" in done.stderr
    site.remove(demo)


def test_new_bundle_behind_a_running_gahp_is_not_called_tested(demo: Lab) -> None:
    """The gridmanager keeps its gahp, and that its version, as long as it has jobs: on a busy factory for days."""
    await_no_gahp(demo)
    site = LabSite("busy")
    site.add(demo)
    old = site.deploy(demo)["digest"]
    with demo.popen(
        "factory",
        ["gwms-bosco", "remote", "test", "busy", "--key", key_of("pilot"), "--run-s", str(LONG_S)],
        user="factory",
        stdout=subprocess.PIPE,
    ) as running:
        await_true(lambda: len(slurm_jobs(demo)) == 1, "a job running")
        newer = LabSite("busy", batch={"settings": {"blah_debug_save_submit_info": ""}})
        newer.add(demo)
        new = newer.deploy(demo)["digest"]
        result = newer.test(demo)
        assert wake_sleepers(demo, WORKERS), "it runs through all of this"
        output, _ = running.communicate(timeout=360)
    assert result["passed"]
    assert result["jobs"][0]["version"] == old
    assert f"bundle {new[:12]}, deployed since, is untested" in result["untested"]
    # The job that ran through the upgrade came back too.
    assert "passed: 1 job" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ended_test_removes_its_jobs(demo: Lab, number: signal.Signals) -> None:
    """Also when the operator's own ssh session drops."""
    argv = ["gwms-bosco", "remote", "test", "demo:pilot", "--key", key_of("pilot"), "--run-s", str(LONG_S)]
    with demo.popen("factory", argv, user="factory", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as test:
        assert test.stdout is not None
        assert "submitted as job" in test.stdout.readline()
        demo.run("factory", ["pkill", f"-{number.name[3:]}", "-f", "cli.main remote test"], user="factory")
        _, errors = test.communicate(timeout=180)
    assert test.returncode == 128 + number
    assert "jobs are removed from the schedd" in errors
    await_true(
        lambda: demo.run("factory", ["condor_q", "-af", "ClusterId"], user="factory").stdout == "", "empty queue"
    )
