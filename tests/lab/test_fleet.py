# SPDX-License-Identifier: Apache-2.0
"""One command over several sites and accounts on real hosts: one is down, one has a wrong key, the others go on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.lab import Lab
from tests.lab.operator import USER, add_site, gwms_bosco, key_of
from tests.lab.sites import LabSite
from tests.lab.waiting import await_no_gahp, await_true

OK, REMOTE = 0, 3
KEYS = f"/home/{USER}/.ssh/fleet"
KEY = f"{KEYS}/{{site}}-{{user}}"
ABSENT_ADDRESS = "10.77.0.99"

_PILOT = """\
universe = grid
grid_resource = batch slurm --rgahp-key {key} --rgahp-nopass --rgahp-glite ~/bosco-fleeta/glite pilot@login
executable = /bin/sleep
arguments = 300
transfer_executable = false
output = /dev/null
log = /home/{user}/fleet.log
queue 3
"""


def give_key(lab: Lab, site: str, user: str, key: str) -> None:
    """Put a copy of an account's key where the pattern of the fleet finds it."""
    lab.run("factory", ["install", "-D", "-m", "0600", key_of(key), f"{KEYS}/{site}-{user}"], user=USER)


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> Iterator[Lab]:
    """fleeta: two accounts; fleetb: another host; fleetdown: no host there; fleetkey: a key that is not accepted."""
    two = json.loads(LabSite("fleeta").text(lab))
    two["accounts"].append({"user": "pilot2", "credential": "broker"})
    add_site(lab, "fleeta", json.dumps(two))
    LabSite("fleetb", host="outside").add(lab)
    down = json.loads(LabSite("fleetdown").text(lab))
    down["login"]["host"] = ABSENT_ADDRESS
    add_site(lab, "fleetdown", json.dumps(down))
    LabSite("fleetkey").add(lab)
    for site, user in (("fleeta", "pilot"), ("fleeta", "pilot2"), ("fleetb", "pilot"), ("fleetdown", "pilot")):
        give_key(lab, site, user, user)
    give_key(lab, "fleetkey", "pilot", "pilot2")
    yield lab
    lab.run("factory", ["condor_rm", "-all"], user=USER, check=False)
    await_true(
        lambda: lab.run("factory", ["condor_q", "-af", "ClusterId"], user=USER).stdout == "", "empty queue", 120.0
    )
    lab.run("factory", ["sh", "-c", "rm -f /etc/gwms-bosco/sites.d/fleet*.yaml"])


def rows(text: str) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The JSON lines of a run: label -> account, and the summary."""
    *accounts, last = [json.loads(line) for line in text.splitlines()]
    return {f"{row['site']}:{row['account']}": row for row in accounts}, last


def test_one_host_down_and_one_wrong_key_stop_no_other(fleet: Lab) -> None:
    done = gwms_bosco(fleet, "remote", "deploy", "fleet*", "--key", KEY, "--json", check=False)
    assert done.returncode == REMOTE
    accounts, last = rows(done.stdout)
    assert {label for label, row in accounts.items() if row["ok"]} == {"fleeta:pilot", "fleeta:pilot2", "fleetb:pilot"}
    assert {row["report"]["action"] for row in accounts.values() if row["ok"]} == {"installed"}
    assert accounts["fleetkey:pilot"]["error"]["kind"] == "AuthenticationError"
    assert accounts["fleetdown:pilot"]["error"]["kind"] == "UnreachableError"
    assert (last["total"], last["ok"], last["failed"]) == (5, 3, 2)
    assert "2 of 5 failed" in done.stderr.splitlines()[-1]


def test_retry_takes_the_failed_ones_alone(fleet: Lab) -> None:
    give_key(fleet, "fleetkey", "pilot", "pilot")
    done = gwms_bosco(fleet, "remote", "deploy", "--retry-failed", "--key", KEY, "--json", check=False)
    assert done.returncode == REMOTE
    accounts, last = rows(done.stdout)
    assert {label: row["ok"] for label, row in accounts.items()} == {"fleetkey:pilot": True, "fleetdown:pilot": False}
    assert last["failed_targets"] == ["fleetdown:pilot"]


def test_broken_site_file_fails_alone(fleet: Lab) -> None:
    fleet.write_file("factory", "/etc/gwms-bosco/sites.d/fleetx.yaml", "site: x\nlogin: [\n")
    try:
        done = gwms_bosco(fleet, "remote", "deploy", "--all", "--key", KEY, check=False)
    finally:
        fleet.run("factory", ["rm", "/etc/gwms-bosco/sites.d/fleetx.yaml"])
    assert done.returncode == REMOTE
    assert "FAILED: fleetx: /etc/gwms-bosco/sites.d/fleetx.yaml:3: error: not valid YAML" in done.stdout
    assert len([line for line in done.stdout.splitlines() if line.startswith("ok: ")]) == 4
    assert re.match(r"6 targets: 4 ok, 2 failed \(", done.stdout.splitlines()[-1])


def job_states(lab: Lab) -> list[str]:
    text = lab.run("factory", ["condor_q", "-af", "JobStatus"], user=USER).stdout
    return sorted(text.split())


def test_status_shows_running_and_held_pilots_as_they_are(fleet: Lab) -> None:
    await_no_gahp(fleet)
    gwms_bosco(fleet, "remote", "ssh-config")
    path = f"/home/{USER}/fleet.sub"
    fleet.write_file("factory", path, _PILOT.format(key=key_of("pilot"), user=USER))
    fleet.run("factory", ["condor_submit", path], user=USER)
    await_true(lambda: job_states(fleet) == ["2", "2", "2"], "three pilots running")
    job = fleet.run("factory", ["condor_q", "-af:j", "ProcId"], user=USER).stdout.split()[0]
    fleet.run("factory", ["condor_hold", "-reason", "the disk is full", job], user=USER)
    await_true(lambda: job_states(fleet) == ["2", "2", "5"], "one of them held")

    done = gwms_bosco(fleet, "remote", "status", "--key", KEY, "--json", check=False)
    accounts, last = rows(done.stdout)
    found = {label: row["report"] for label, row in accounts.items()}
    pilots = found["fleeta:pilot"]["pilots"]
    assert (pilots["running"], pilots["idle"], pilots["held"]) == (2, 0, 1)
    (reason,) = pilots["hold_reasons"]
    assert "the disk is full" in reason["reason"]
    # The same user on the same host, but another install folder; and another user of the same site.
    for label in ("fleetkey:pilot", "fleeta:pilot2", "fleetb:pilot"):
        assert (found[label]["pilots"]["running"], found[label]["pilots"]["held"]) == (0, 0)
    assert found["fleeta:pilot"]["reachable"]
    assert found["fleeta:pilot"]["drift"] is False
    assert found["fleeta:pilot"]["last"]["deploy"]["ok"]
    assert not found["fleetdown:pilot"]["reachable"]
    assert found["fleetdown:pilot"]["installed"] is None
    assert last["failed_targets"] == ["fleetdown:pilot"]


def test_status_on_a_terminal_and_without_connecting(fleet: Lab) -> None:
    before = fleet.read_file("login", "/var/log/sshd.log").count("Accepted publickey")
    command = "stty cols 200; exec gwms-bosco remote status 'fleet[ab]' --no-connect"
    shown = fleet.run("factory", ["script", "-qefc", command, "/dev/null"], user=USER, env={"TERM": "xterm"}).stdout
    assert "fleeta:pilot2" in shown
    assert "not asked" in shown
    assert fleet.read_file("login", "/var/log/sshd.log").count("Accepted publickey") == before


def test_deploy_on_a_terminal_shows_a_table_and_keeps_the_results(fleet: Lab) -> None:
    command = f"stty cols 200; exec gwms-bosco remote deploy 'fleet[ab]' --key '{KEY}'"
    shown = fleet.run("factory", ["script", "-qefc", command, "/dev/null"], user=USER, env={"TERM": "xterm"}).stdout
    assert "\x1b[" in shown
    assert "ok: fleeta:pilot2: unchanged" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert "3 targets: 3 ok, 0 failed" in shown


def test_wrong_keys_do_not_get_the_factory_shut_out(fleet: Lab) -> None:
    """A real sshd with PerSourcePenalties at its defaults: the accounts with good keys still get in afterwards."""
    config = "/etc/ssh/sshd_config.d/10-lab.conf"
    was = fleet.read_file("login", config)
    fleet.write_file("login", config, was.replace("PerSourcePenalties no\n", ""))
    fleet.run("login", ["sh", "-c", "kill -HUP $(cat /run/sshd.pid)"])
    try:
        for number in range(8):
            site = json.loads(LabSite(f"fleetbad{number}").text(fleet))
            add_site(fleet, f"fleetbad{number}", json.dumps(site))
            give_key(fleet, f"fleetbad{number}", "pilot", "pilot2")
        done = gwms_bosco(fleet, "remote", "status", "fleetbad*", "--key", KEY, "--json", check=False)
        problems = [row["report"]["problem"] for row in rows(done.stdout)[0].values()]
        assert sum("does not accept the key" in problem for problem in problems) == 3
        assert sum("not tried: login has refused 3 logins" in problem for problem in problems) == 5
        done = gwms_bosco(fleet, "remote", "status", "fleeta:*", "--key", KEY, check=False)
        assert done.returncode == OK, done.stdout + done.stderr
    finally:
        fleet.run("factory", ["sh", "-c", "rm -f /etc/gwms-bosco/sites.d/fleetbad*.yaml"])
        fleet.write_file("login", config, was)
        fleet.run("login", ["sh", "-c", "kill -HUP $(cat /run/sshd.pid)"])


def test_penalised_factory_waits_and_gets_in(fleet: Lab) -> None:
    """Somebody else's failed logins have shut the factory's address out; the command waits the penalty out."""
    config = "/etc/ssh/sshd_config.d/10-lab.conf"
    was = fleet.read_file("login", config)
    fleet.write_file("login", config, was.replace("PerSourcePenalties no\n", "PerSourcePenalties authfail:2s min:4s\n"))
    fleet.run("login", ["sh", "-c", "kill -HUP $(cat /run/sshd.pid)"])
    try:
        argv = ["ssh", "-o", "BatchMode=yes", "-i", key_of("pilot2"), "-o", "IdentitiesOnly=yes", "pilot@login", "true"]
        for _ in range(4):
            fleet.run("factory", argv, user=USER, check=False)
        done = gwms_bosco(fleet, "remote", "status", "fleeta:pilot", "--key", KEY, check=False)
        assert done.returncode == OK, done.stdout + done.stderr
        assert "login turned us away; next try in" in done.stderr
    finally:
        fleet.write_file("login", config, was)
        fleet.run("login", ["sh", "-c", "kill -HUP $(cat /run/sshd.pid)"])
