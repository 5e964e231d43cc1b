# SPDX-License-Identifier: Apache-2.0
"""A closed site from firewall to payload: pilots of the factory join the pool through tunnel and egress proxy.

The site file is the shipped example; the pilot's payload reads CVMFS, SITECONF and a Frontier object within the site's
image, makes a transfer with its certificate, and sends its output back.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.lab import global_pool
from tests.lab.closed_egress import ADDRESS as EGRESS
from tests.lab.closed_home import ADDRESS as HOME
from tests.lab.closed_home import (
    FORWARDS,
    FRONTIER_PORT,
    HTCONDOR,
    PAYLOAD_NAME,
    POOL,
    STRATUM1_PORT,
    WEB_SERVER,
    web_url,
)
from tests.lab.closed_site import ALIAS, KINDS, NAMELESS, ClosedSite, site_of
from tests.lab.factory_pilots import FactoryPilot
from tests.lab.lab import Lab
from tests.lab.operator import gwms_bosco, key_of
from tests.lab.payloads import Payload
from tests.lab.pilot_site import GREETING
from tests.lab.pilots import ACCOUNT, GLIDEIN, LIFE_S, Pilot, PilotEntry
from tests.lab.settings import WORKERS
from tests.lab.slurm import CONTROLLER_PORT
from tests.lab.waiting import await_true

SSH = 22
SLURMD_PORT = 6818
LOGIN, LOGIN2, LOGIN_OUTSIDE, FACTORY, WORKER, WORKER2 = (
    *("10.77.1.1", "10.77.1.2", "10.77.0.20"),
    *("10.77.0.10", "10.77.1.11", "10.77.1.12"),
)
IDLE_S = 15
KEY = key_of(ACCOUNT)
ENDED_DEADLINE_S = 60.0
ATTEMPTS_AT_ONCE = 12


@dataclass(frozen=True)
class Way:
    """A connection that must fail from `host`, and the host from which the same one comes about."""

    host: str
    address: str
    port: int
    control: str


OPEN = [
    ("worker1", LOGIN, SSH),
    ("worker1", LOGIN2, SSH),
    ("worker1", LOGIN, CONTROLLER_PORT),
    ("login", EGRESS, 80),
    ("login", EGRESS, 443),
    ("login2", EGRESS, 80),
    ("login", WORKER, SLURMD_PORT),
    ("factory", LOGIN_OUTSIDE, SSH),
]
SHUT = [
    *(Way("worker1", HOME, port, "egress") for port in FORWARDS.values()),
    *(Way(login, HOME, port, "egress") for login in ("login", "login2") for port in (*FORWARDS.values(), SSH)),
    Way("worker1", EGRESS, 80, "login"),
    Way("worker1", EGRESS, 443, "login"),
    Way("worker1", LOGIN_OUTSIDE, SSH, "factory"),
    Way("worker1", WORKER2, SLURMD_PORT, "login"),
    Way("login", FACTORY, FORWARDS["pool"], "outside"),
    Way("factory", LOGIN_OUTSIDE, CONTROLLER_PORT, "login"),
]


@dataclass(frozen=True)
class Run:
    """A pilot and its payload."""

    pilot: FactoryPilot
    payload: Payload


@pytest.fixture(scope="module")
def entries_by_kind(closed: ClosedSite) -> Mapping[str, PilotEntry]:
    """Everything is deployed, and the egress proxies run."""
    return closed.bring(*KINDS)


@pytest.fixture(scope="module")
def runs(closed: ClosedSite, entries_by_kind: Mapping[str, PilotEntry]) -> Mapping[str, Run]:
    """One pilot for each kind of egress proxy, all submitted before the first has joined."""
    found = {}
    for kind, entry in entries_by_kind.items():
        pilot = closed.submit(entry, f"by-{kind}", idle_s=IDLE_S)
        found[kind] = Run(pilot, closed.submit_payload(pilot, pilot.name))
    return found


def connects(lab: Lab, host: str, address: str, port: int) -> bool:
    argv = ["timeout", "3", "bash", "-c", 'exec 3<>"/dev/tcp/$0/$1"', address, str(port)]
    return lab.run(host, argv, check=False).returncode == 0


@pytest.mark.usefixtures("entries_by_kind")
def test_firewall_leaves_one_way_out(closed: ClosedSite) -> None:
    """Each attempt that fails comes about from somewhere else, so it is the firewall that it fails at."""
    wanted = dict.fromkeys(OPEN, True)
    wanted.update({(way.host, way.address, way.port): False for way in SHUT})
    wanted.update({(way.control, way.address, way.port): True for way in SHUT})
    with ThreadPoolExecutor(ATTEMPTS_AT_ONCE) as pool:
        found = dict(zip(wanted, pool.map(lambda way: connects(closed.lab, *way), wanted)))
    assert found == wanted


@pytest.mark.usefixtures("entries_by_kind")
@pytest.mark.parametrize("name", ["outside", "egress", POOL, WEB_SERVER])
def test_workers_know_no_name_of_the_institute(closed: ClosedSite, name: str) -> None:
    """So what pilots call by name, the egress proxy has looked up."""
    for worker in WORKERS:
        assert closed.lab.run(worker, ["getent", "hosts", name], check=False).returncode == 2
    assert closed.lab.run("worker1", ["getent", "hosts", ALIAS]).stdout.split() == [LOGIN, ALIAS]


@pytest.mark.usefixtures("entries_by_kind")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != NAMELESS])
def test_egress_check_finds_nothing_wrong(closed: ClosedSite, kind: str) -> None:
    """Forwards pass as they are spelled, names and addresses. What stands for Dante does not say that it refuses."""
    said = gwms_bosco(closed.lab, "egress", "check", site_of(kind), "--key", KEY, "--json").stdout
    assert {line["severity"] for line in json.loads(said)["lines"]} == {"ok"}, said


@pytest.mark.parametrize("kind", KINDS)
def test_payload_runs_in_a_pilot_behind_the_firewall(closed: ClosedSite, runs: Mapping[str, Run], kind: str) -> None:
    run = runs[kind]
    assert run.payload.exit_code() == 42, run.payload.stderr()
    *ad, image, hello, proxy, frontier, text = run.payload.stdout().splitlines(keepends=True)
    assert "".join(ad) == (
        f'GWMS_BOSCO_EGRESS = "{kind}"\nGWMS_BOSCO_IN_CONTAINER = "pilot"\nGWMS_BOSCO_WEB_PROXY_SOURCE = "egress"\n'
    )
    assert (image, hello) == ("stand-in image\n", GREETING)
    assert proxy.startswith("proxy http://"), proxy
    assert (frontier, text) == ('<quality error="0"\n', "input\n")
    assert run.payload.file("output") == "written\n"
    assert closed.home.stored(run.pilot.name) == "input\n"
    assert f'CN={PAYLOAD_NAME} {EGRESS} "PUT /{run.pilot.name} ' in closed.home.store.log()
    assert_web(closed, kind)
    assert_ended(run.pilot)


def assert_web(closed: ClosedSite, kind: str) -> None:
    """What the client of CVMFS and the payload asked for came through a squid."""
    if kind == "http-connect":
        asked = closed.egress(kind).web_requests()
    else:
        asked = [request.url for request in closed.home.squid.requests() if request.status == 200]
    image, query = f"http://{HOME}:{STRATUM1_PORT}/cvmfs/cms.cern.ch/data/image", f"http://{HOME}:{FRONTIER_PORT}/"
    assert image in asked
    assert any(url.startswith(query) for url in asked)


def assert_ended(pilot: FactoryPilot) -> None:
    """It ends when idle, and what it has printed comes back."""
    await_true(lambda: "Normal termination (return value 0)" in pilot.log(), "pilot's job ended", ENDED_DEADLINE_S)
    assert "=== cvmfs_setup: 0" in pilot.output(), json.dumps(pilot.output())


def test_script_pasted_into_an_allocation_starts_the_same_pilot(
    closed: ClosedSite, entries_by_kind: Mapping[str, PilotEntry]
) -> None:
    lab, kind, pilot = closed.lab, "http-connect", Pilot(closed.lab, "by-hand")
    script = hand_script(closed, entries_by_kind[kind], pilot.name)
    token = f"/shared/{ACCOUNT}/pool.token"
    lab.write_file("login", token, global_pool.token(lab), f"{ACCOUNT}:{ACCOUNT}", 0o600)
    payload = closed.submit_payload(pilot, pilot.name)
    argv = ["salloc", "--quiet", "--nodes=1", "srun", "bash"]
    allocation = lab.popen("login", argv, user=ACCOUNT, env={"GWMS_BOSCO_TOKEN": token}, stdin=subprocess.PIPE)
    try:
        assert allocation.stdin is not None
        allocation.stdin.write(script)
        allocation.stdin.close()
        allocation.stdin = None
        pilot.await_joined()
        status = gwms_bosco(lab, "remote", "status", site_of(kind), "--key", KEY).stdout
        assert payload.exit_code() == 42, payload.stderr()
        assert closed.home.stored(pilot.name) == "input\n"
        said, errors = allocation.communicate(timeout=ENDED_DEADLINE_S)
        assert allocation.returncode == 0, said + errors
    finally:
        if allocation.poll() is None:
            os.killpg(allocation.pid, signal.SIGKILL)
    assert re.search("1 pilot started by hand on worker[12]", status), status


def hand_script(closed: ClosedSite, entry: PilotEntry, name: str) -> str:
    """What the operator pastes."""
    archive = entry.archive.rpartition("/")[2]
    closed.home.publish(archive)
    arguments = [web_url(archive), "@TOKEN@", web_url(HTCONDOR), name, str(LIFE_S), str(IDLE_S), "@FOLDER@", POOL]
    argv = ["pilot", "script", entry.name, "--startup", GLIDEIN, "--arguments", *arguments]
    return gwms_bosco(closed.lab, *argv).stdout


def test_nothing_is_left_when_the_pilots_have_ended(closed: ClosedSite, runs: Mapping[str, Run]) -> None:
    for run in runs.values():
        assert_ended(run.pilot)
    closed.assert_nothing_left()
