# SPDX-License-Identifier: Apache-2.0
"""A lab starts once, lives beside others, and leaves nothing; real labs under names of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import net
from tests.lab.lab import Lab
from tests.lab.settings import BASE_HOSTS, CHECKOUT, EXTRA_HOSTS, LabError
from tests.lab.waiting import await_true

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root: network name spaces, overlay mounts"),
]


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab(f"gwmst{os.getpid()}")
    try:
        yield made
    finally:
        made.down()


@pytest.fixture
def other() -> Iterator[Lab]:
    made = Lab(f"gwmst{os.getpid()}b")
    try:
        yield made
    finally:
        made.down()


def traces(lab: Lab) -> list[str]:
    """Return every process, mount, network name space and directory that belongs to the lab."""
    found = [*net.existing(lab.settings)]
    mine = f"{lab.settings.state_dir}/", f"/run/netns/{lab.name}-"
    spaces = {(net.NETNS_DIR / name).stat().st_ino for name in found}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            inside = (process / "ns/net").stat().st_ino in spaces
            named = any(path in (process / "cmdline").read_text().replace("\0", " ") for path in mine)
            mounts = any(path in (process / "mountinfo").read_text() for path in mine)
        except OSError:
            continue
        if inside or named or mounts:
            found.append(f"process {process.name}")
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if any(m in line for m in mine)]
    return found + [str(path) for path in lab.settings.labs_dir.glob(f"{lab.name}*")]


def srun_hostname(lab: Lab) -> str:
    return lab.run("login", ["srun", "-w", "worker2", "hostname"], user="pilot").stdout.strip()


def slurm_jobs(lab: Lab) -> int:
    """Return how many jobs the cluster has ever been given (it numbers them from 1)."""
    made = lab.run("login", ["sbatch", "--parsable", "--wrap", "true"], user="pilot").stdout
    return int(made)


def test_second_up_keeps_the_running_lab(lab: Lab) -> None:
    lab.up()
    before = lab.host("factory").pid1()
    lab.run("factory", ["touch", "kept"], user="factory")
    said: list[str] = []
    Lab(lab.name, lab.profile, say=said.append).up()
    assert said == [f"lab {lab.name} is already up"]
    assert lab.host("factory").pid1() == before
    lab.run("factory", ["test", "-e", "kept"], user="factory")


def test_up_after_down_is_a_fresh_lab(lab: Lab) -> None:
    lab.up()
    key = lab.read_file("factory", "/home/factory/.ssh/pilot.pub")
    host_key = lab.read_file("login", "/etc/ssh/ssh_host_ed25519_key.pub")
    assert slurm_jobs(lab) == 1
    lab.down()
    lab.up()
    assert slurm_jobs(lab) == 1
    assert lab.read_file("factory", "/home/factory/.ssh/pilot.pub") != key
    assert lab.read_file("login", "/etc/ssh/ssh_host_ed25519_key.pub") != host_key


def test_two_labs_side_by_side_do_not_see_each_other(lab: Lab, other: Lab) -> None:
    lab.up()
    other.up()
    assert [srun_hostname(each) for each in (lab, other)] == ["worker2", "worker2"]
    slurm_jobs(lab)
    assert slurm_jobs(lab) == slurm_jobs(other) + 1
    lab.run("login", ["touch", "/shared/here"])
    assert lab.run("worker1", ["test", "-e", "/shared/here"], check=False).returncode == 0
    assert other.run("worker1", ["test", "-e", "/shared/here"], check=False).returncode == 1
    other.down()
    assert srun_hostname(lab) == "worker2"
    assert traces(other) == []


def test_factory_reaches_the_login_nodes_by_ssh_and_not_the_workers(lab: Lab) -> None:
    lab.up()
    options = ["-i", ".ssh/pilot", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    for host in ("login", "outside"):
        done = lab.run("factory", ["ssh", *options, f"pilot@{host}", "hostname"], user="factory")
        assert done.stdout.strip() == host
    assert lab.run("factory", ["nc", "-z", "-w2", "10.77.1.11", "6818"], check=False).returncode != 0
    assert "Accepted publickey for pilot" in lab.read_file("login", "/var/log/sshd.log")
    assert lab.run("login", ["sh", "-c", "command -v blahpd condor_q"], check=False).returncode != 0


def test_down_leaves_nothing_even_with_commands_running(lab: Lab) -> None:
    assert traces(lab) == []
    lab.up()
    lab.run("login", ["sbatch", "--wrap", "sleep 600"], user="pilot")
    running = lab.popen("worker1", ["sleep", "600"])
    assert len(traces(lab)) > len(BASE_HOSTS)
    lab.down()
    running.communicate(timeout=60)
    assert running.returncode != 0
    assert traces(lab) == []
    lab.down()


@pytest.mark.parametrize("step", ["root file system", "networks", "hosts", "keys", "services"])
def test_down_and_up_work_after_a_killed_up(lab: Lab, step: str) -> None:
    """The `up` is killed as soon as it has reported `step`: in the middle of the next one."""
    for recover in (lab.down, lab.up):
        killed = subprocess.Popen(
            [sys.executable, "-m", "tests.lab", "--name", lab.name, "--profile", lab.profile, "up"],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert killed.stdout is not None
        for line in killed.stdout:
            if line.rstrip().endswith(step):
                killed.kill()
        killed.stdout.close()
        assert killed.wait(timeout=60) == -signal.SIGKILL
        assert traces(lab) != []
        recover()
        assert (traces(lab) == []) == (not lab.is_up())
    assert srun_hostname(lab) == "worker2"


def test_down_does_not_kill_a_process_that_got_a_recorded_pid(lab: Lab) -> None:
    with subprocess.Popen(["sleep", "600"]) as innocent:
        try:
            record = lab.host("login").record_file
            record.parent.mkdir(parents=True)
            record.write_text(f"{innocent.pid} 1\n")
            lab.down()
            assert innocent.poll() is None
            assert traces(lab) == []
        finally:
            innocent.kill()


def test_up_restarts_a_lab_that_lost_a_daemon(lab: Lab) -> None:
    lab.up()
    lab.run("login", ["sh", "-c", "kill -9 $(cat /run/slurmctld.pid)"])
    # A killed process takes its time on a busy machine.
    await_true(lambda: not lab.is_up(), "the daemon's death noticed", 10.0)
    lab.up()
    assert srun_hostname(lab) == "worker2"


def test_other_profile_is_refused_while_up(lab: Lab) -> None:
    lab.up()
    profile = "next" if lab.profile != "next" else "trixie"
    with pytest.raises(LabError, match="take it down first"):
        Lab(lab.name, profile).up()
    assert lab.is_up()


def test_time_out_kills_the_command_inside_the_host(lab: Lab) -> None:
    lab.up()
    with pytest.raises(LabError, match="not done within"):
        lab.run("worker1", ["sleep", "4711"], timeout=0.3)
    assert lab.run("worker1", ["pgrep", "-f", "^sleep 4711"], check=False).stdout == ""


def test_refuses_a_name_that_leaves_the_cache() -> None:
    with pytest.raises(LabError, match="must match"):
        Lab("../x")


def test_extra_hosts_start_beside_a_running_lab_and_go_with_it(lab: Lab) -> None:
    with pytest.raises(LabError, match="is not up"):
        lab.ensure("login-condor")
    lab.up()
    pid1 = lab.host("login").pid1()
    for extra in EXTRA_HOSTS:
        lab.ensure(extra)
        first = lab.host(extra).pid1()
        lab.ensure(extra)
        assert lab.host(extra).pid1() == first
    assert set(lab.status().values()) == {"up"}
    assert lab.host("login").pid1() == pid1
    assert lab.run("login-old", ["getconf", "GNU_LIBC_VERSION"]).stdout == "glibc 2.36\n"
    assert job_on_condor(lab) == "login-condor 3"
    assert job_on_grid_engine(lab) == "login-sge 3"
    lab.down()
    assert traces(lab) == []


JOB = "#!/bin/sh\nhostname\nexit 3\n"


def job_on_condor(lab: Lab) -> str:
    """Return the output and the exit code of a job in the pool of login-condor."""
    lab.write_file("login-condor", "/home/pilot/job.sh", JOB, "pilot:pilot", 0o755)
    submit = "executable=job.sh\noutput=out\nlog=log\nrequest_memory=50\nrequest_disk=1M\nqueue\n"
    lab.run("login-condor", ["condor_submit", "-"], user="pilot", input=submit)
    lab.run("login-condor", ["condor_wait", "-wait", "60", "log"], user="pilot")
    code = re.search(r"return value (\d+)", lab.read_file("login-condor", "/home/pilot/log"))
    assert code is not None
    return f"{lab.read_file('login-condor', '/home/pilot/out').strip()} {code.group(1)}"


def job_on_grid_engine(lab: Lab) -> str:
    """Return the output and the exit code of a job in the queue of login-sge."""
    lab.write_file("login-sge", "/home/pilot/job.sh", JOB, "pilot:pilot", 0o755)
    done = lab.run("login-sge", ["qsub", "-sync", "y", "-o", "out", "job.sh"], user="pilot", check=False)
    return f"{lab.read_file('login-sge', '/home/pilot/out').strip()} {done.returncode}"
