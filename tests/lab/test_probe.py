# SPDX-License-Identifier: Apache-2.0
"""A probe of a sound login node finds nothing; each fault that is planted there is found, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from glideinwms_bosco.remote.probe_codes import RULES
from tests.lab.lab import Lab
from tests.lab.operator import gwms_bosco, key_of
from tests.lab.sites import LabSite
from tests.lab.test_refusals import tree
from tests.lab.waiting import await_true

OK, REMOTE = 0, 3
HOME = "/shared/pilot"
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
# The lab's Slurm keeps no accounting.
NORMAL = {61}


def run_probe(lab: Lab, site: LabSite, *options: str) -> dict[str, Any]:
    """Probe a site with --json; the report with its exit status as `status`."""
    site.add(lab)
    try:
        argv = ["remote", "probe", site.name, "--key", key_of("pilot"), "--json", *options]
        done = gwms_bosco(lab, *argv, check=False)
    finally:
        site.remove(lab)
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return {**report, "status": done.returncode}


def codes(report: dict[str, Any]) -> set[int]:
    """Numbers of the codes found, without those that are always there."""
    return {int(finding["code"].rpartition("-")[2]) for finding in report["findings"]} - NORMAL


@contextmanager
def home_file(lab: Lab, name: str, text: str, host: str = "login", home: str = HOME) -> Iterator[None]:
    """A startup file of the account, taken away again."""
    lab.write_file(host, f"{home}/{name}", text, "pilot:pilot")
    try:
        yield
    finally:
        lab.run(host, ["rm", f"{home}/{name}"])


@contextmanager
def sshd_setting(lab: Lab, line: str) -> Iterator[None]:
    """A line of sshd_config on the login node; it comes before the lab's own."""
    path = "/etc/ssh/sshd_config.d/05-probe.conf"
    lab.write_file("login", path, f"{line}\n")
    _reload_sshd(lab)
    try:
        yield
    finally:
        lab.run("login", ["rm", path])
        _reload_sshd(lab)


def _reload_sshd(lab: Lab) -> None:
    """The pid file comes back when the new configuration is listened with."""
    lab.run("login", ["sh", "-euc", "pid=$(cat /run/sshd.pid); rm /run/sshd.pid; kill -HUP $pid"])
    await_true(lambda: lab.host("login").daemon_runs("/run/sshd.pid"), "sshd reads its configuration")


@contextmanager
def moved(lab: Lab, path: str) -> Iterator[None]:
    """A program of the login node that is not there."""
    lab.run("login", ["mv", path, f"{path}.off"])
    try:
        yield
    finally:
        lab.run("login", ["mv", f"{path}.off", path])


@contextmanager
def mounted(lab: Lab, hosts: tuple[str, ...], place: str, options: str) -> Iterator[None]:
    """An empty file system in a place of some hosts."""
    for host in hosts:
        lab.run(host, ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place])
    try:
        yield
    finally:
        for host in hosts:
            lab.run(host, ["umount", "-l", place])


@contextmanager
def partition(lab: Lab, state: str) -> Iterator[None]:
    lab.run("login", ["scontrol", "update", "PartitionName=batch", f"State={state}"])
    try:
        yield
    finally:
        lab.run("login", ["scontrol", "update", "PartitionName=batch", "State=UP"])


@contextmanager
def full_home(lab: Lab) -> Iterator[None]:
    with mounted(lab, ("login",), "/mnt", "size=1m,mode=755,uid=2001,gid=2001"):
        lab.run("login", ["cp", "-a", f"{HOME}/.ssh", "/mnt/"])
        lab.run("login", ["sh", "-c", "head -c 4m /dev/zero >/mnt/fill 2>/dev/null || :"], user="pilot")
        lab.run("login", ["mount", "--bind", "/mnt", HOME])
        try:
            yield
        finally:
            lab.run("login", ["umount", "-l", HOME])


def test_sound_login_node_has_no_finding_and_keeps_nothing(lab: Lab) -> None:
    before = tree(lab, "login", "/shared")
    report = run_probe(lab, LabSite("probe-ok", batch={"queue": "batch"}))
    assert report["findings"] == [] or codes(report) == set(), report["findings"]
    assert report["status"] == OK
    facts = report["facts"]
    assert facts["job"]["result"][1] in ("worker1", "worker2")
    assert (facts["account"], facts["home"], facts["umask"]) == ("pilot", HOME, 0o022)
    assert report["batch"]["version"].startswith("24.")
    assert report["ssh"] == {"forwarding": True, "sessions": 10}
    names = {line.split()[0] for line in tree(lab, "login", "/shared").splitlines()}
    assert names == {line.split()[0] for line in before.splitlines()}
    assert lab.run("login", ["squeue", "-h"]).stdout == ""
    assert lab.run("login", ["sh", "-c", "ls -d /tmp/gwms* 2>/dev/null || :"]).stdout == ""


def test_probe_without_job_submits_none(lab: Lab) -> None:
    def next_job() -> list[str]:
        config = lab.run("login", ["scontrol", "show", "config"]).stdout
        return [line for line in config.splitlines() if line.startswith("NEXT_JOB_ID")]

    before = next_job()
    assert before
    assert not run_probe(lab, LabSite("probe-quick"), "--no-job")["job_submitted"]
    assert next_job() == before


PLANTED: dict[str, tuple[int, Any]] = {
    "noise": (13, lambda lab: home_file(lab, ".bashrc", "echo Welcome to the machine\n")),
    "noise-of-login-shells": (13, lambda lab: home_file(lab, ".bash_profile", "echo your quota is fine\n")),
    "no-forwarding": (30, lambda lab: sshd_setting(lab, "AllowTcpForwarding no")),
    "local-forwarding-only": (30, lambda lab: sshd_setting(lab, "AllowTcpForwarding local")),
    "few-sessions": (31, lambda lab: sshd_setting(lab, "MaxSessions 2")),
    "no-sbatch": (50, lambda lab: moved(lab, "/usr/bin/sbatch")),
    "full-home": (20, full_home),
    "home-not-shared": (23, lambda lab: mounted(lab, ("worker1", "worker2"), "/shared", "size=1m")),
    "clock-an-hour-ahead": (
        40,
        lambda lab: home_file(lab, ".bashrc", f"export LD_PRELOAD={FAKETIME} FAKETIME=+1h\n"),
    ),
    "clock-minutes-behind": (
        41,
        lambda lab: home_file(lab, ".bashrc", f"export LD_PRELOAD={FAKETIME} FAKETIME=-2m\n"),
    ),
    "umask": (14, lambda lab: home_file(lab, ".bash_profile", "umask 000\n")),
    "cpu-limit": (70, lambda lab: home_file(lab, ".bash_profile", "ulimit -t 3600\n")),
    "few-files": (71, lambda lab: home_file(lab, ".bash_profile", "ulimit -n 128\n")),
    "profile-ends": (11, lambda lab: home_file(lab, ".bash_profile", "exit 7\n")),
    "profile-reads": (12, lambda lab: home_file(lab, ".bash_profile", "cat >/dev/null\n")),
    "penalties": (32, lambda lab: sshd_setting(lab, "PerSourcePenalties crash:90s")),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_planted_fault_is_the_one_finding(lab: Lab, fault: str) -> None:
    number, plant = PLANTED[fault]
    with plant(lab):
        report = run_probe(lab, LabSite(f"probe-{fault}"))
    assert codes(report) == {number}, report["findings"]
    assert report["status"] == (REMOTE if RULES[number].severity == "error" else OK)


WRONG_SITES = {
    "missing-partition": (52, LabSite("probe-noqueue", batch={"queue": "nosuch"})),
    "too-long": (56, LabSite("probe-long", entry={"walltime": "48h"})),
    "refused-option": (58, LabSite("probe-option", batch={"extra_args": ["--constraint=nosuch"]})),
}


@pytest.mark.parametrize("what", WRONG_SITES)
def test_site_file_that_does_not_fit_is_the_one_finding(lab: Lab, what: str) -> None:
    number, site = WRONG_SITES[what]
    report = run_probe(lab, site)
    assert codes(report) == {number}, report["findings"]


def test_queue_that_is_down_is_told_and_the_waiting_job_taken_back(lab: Lab) -> None:
    with partition(lab, "DOWN"):
        report = run_probe(lab, LabSite("probe-down"), "--job-timeout", "2")
        assert lab.run("login", ["squeue", "-h"]).stdout == ""
    assert codes(report) == {53, 60}
    assert lab.run("login", ["sh", "-c", f"ls -d {HOME}/.gwms* 2>/dev/null || :"]).stdout == ""


def test_job_and_folder_of_a_probe_whose_connection_is_cut_go_at_its_deadline(lab: Lab) -> None:
    site = LabSite("probe-cut")
    site.add(lab)
    argv = ["gwms-bosco", "remote", "probe", site.name, "--key", key_of("pilot"), "--job-timeout", "6"]
    with partition(lab, "DOWN"), lab.popen("factory", argv, user="factory") as running:
        await_true(lambda: lab.run("login", ["squeue", "-h"]).stdout != "", "the test job is queued")
        lab.run("login", ["pkill", "-KILL", "-u", "pilot", "sshd-session"])
        assert running.wait(30) == REMOTE
        await_true(lambda: lab.run("login", ["squeue", "-h"]).stdout == "", "the test job is taken back")
        await_true(
            lambda: lab.run("login", ["sh", "-c", f"ls -d {HOME}/.gwms* 2>/dev/null || :"]).stdout == "",
            "the folder is removed",
        )
    site.remove(lab)


# Imitates markers and keys, sends control sequences and bytes that are no text; the last line has no end.
_HOSTILE = r"""
printf 'GWMS-BOSCO-BEGIN 0\nCLOCK 1\nARCH vax\nLOGIN reads\nJOB refused\nGWMS-BOSCO-END 0\n'
printf '\033]0;title\007\033[2J\377\376\200 \000 text\r\n'
head -c 10000000 /dev/zero | tr '\0' 'x'
"""


@pytest.mark.parametrize("name", [".bashrc", ".bash_profile"])
def test_megabytes_of_hostile_noise_are_noise(lab: Lab, name: str) -> None:
    with home_file(lab, name, _HOSTILE):
        report = run_probe(lab, LabSite("probe-hostile"))
    assert codes(report) == {13}, report["findings"]
    (message,) = (finding["message"] for finding in report["findings"] if finding["severity"] == "warning")
    assert message.isprintable()
    assert len(message) < 1000
    assert report["facts"]["architecture"] == "x86_64"


# What a Slurm 24.11 says; its clients do not exist for the old system.
_FAKE = r"""#!/bin/sh
case "${0##*/} $*" in
  "scontrol show config") printf 'MinJobAge = 300 sec\nSLURM_VERSION = 24.11.5\n' ;;
  scontrol*partition) printf 'PartitionName=batch\n   AllowGroups=ALL Default=YES\n   MaxTime=UNLIMITED State=UP\n' ;;
esac
"""


def test_old_libc_is_the_one_finding(lab: Lab) -> None:
    lab.ensure("login-old")
    commands = ("scontrol", "sbatch", "squeue", "scancel", "sacct", "sacctmgr")
    for command in commands:
        lab.write_file("login-old", f"/usr/local/bin/{command}", _FAKE, mode=0o755)
    try:
        report = run_probe(lab, LabSite("probe-old", "login-old"), "--no-job")
    finally:
        lab.run("login-old", ["rm", *(f"/usr/local/bin/{command}" for command in commands)])
    assert codes(report) == {2}, report["findings"]
    (message,) = (finding["message"] for finding in report["findings"])
    assert "2.36" in message
    assert "2.38" in message


OTHERS = {
    "login-sge": ("sge", {"settings": {"sge_rootpath": "/var/lib/gridengine", "sge_cellname": "default"}}),
    "login-condor": ("condor", {}),
}


@pytest.mark.parametrize("host", OTHERS)
def test_other_batch_systems_are_probed_with_a_job(lab: Lab, host: str) -> None:
    lab.ensure(host)
    system, batch = OTHERS[host]
    report = run_probe(lab, LabSite(f"probe-{system}", host, system, batch=batch))
    assert report["findings"] == []
    assert report["facts"]["job"]["result"][1] == host
    assert report["batch"]["accounting"] is True


@pytest.mark.parametrize("host", OTHERS)
def test_other_batch_systems_name_the_missing_queue(lab: Lab, host: str) -> None:
    lab.ensure(host)
    system, batch = OTHERS[host]
    report = run_probe(lab, LabSite(f"probe-{system}-q", host, system, batch={**batch, "queue": "nosuch"}))
    assert codes(report) == {52}, report["findings"]


@pytest.mark.parametrize("host", OTHERS)
def test_other_batch_systems_name_the_missing_command(lab: Lab, host: str) -> None:
    lab.ensure(host)
    system, batch = OTHERS[host]
    command = lab.run(host, ["sh", "-c", "command -v qsub || command -v condor_submit"]).stdout.strip()
    lab.run(host, ["mv", command, f"{command}.off"])
    try:
        report = run_probe(lab, LabSite(f"probe-{system}-c", host, system, batch=batch))
    finally:
        lab.run(host, ["mv", f"{command}.off", command])
    assert codes(report) == {50}, report["findings"]
