# SPDX-License-Identifier: Apache-2.0
"""Broker, relay, link or disk fail while jobs come: they wait and then run, and the operator reads why and who acts.

Real jobs through gridmanager and remote_gahp with the handle only, as glideinWMS submits pilots.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from tests.lab.daemon import Daemon
from tests.lab.grid_jobs import GridJobs, submit
from tests.lab.keyless import (
    BROKER_DIR,
    BROKER_USER,
    FACTORY_USER,
    PORT,
    RELAY_DIR,
    Broker,
    Relay,
    authorise,
    await_offer,
    start_broker,
    start_relay,
)
from tests.lab.lab import Lab
from tests.lab.settings import CHECKOUT_IN_HOST
from tests.lab.sites import LabSite
from tests.lab.waiting import await_no_gahp, await_true

KEY = "juwels"
BOSCO_DIR = "bosco-faults"
LOGS = "/var/log/gwms-ssh-broker"
FULL_DISK = f"{LOGS}/everything-else"
CONDOR_CONF = "/home/factory/condor/config.d/90-faults.conf"
# What a factory has in minutes.
_QUICK = """\
GRIDMANAGER_RESOURCE_PROBE_INTERVAL = 3
GRIDMANAGER_RESOURCE_PROBE_DELAY = 1
SCHEDD_INTERVAL = 1
SCHEDD_MIN_INTERVAL = 1
"""
END = "/shared/pilot/end-of-faults"
FORWARDED_PORT = 8629
# A request that waits in a broker's socket is larger; a PING is smaller.
_REQUEST_BYTES = 300
_CUT = """\
table inet cut {
  chain out { type filter hook output priority 0; ip daddr 10.77.0.10 drop; }
  chain in { type filter hook input priority -1; ip saddr 10.77.0.10 drop; }
}
"""
_numbers = itertools.count(1)


@dataclass(frozen=True)
class World:
    """A factory, a broker with one key, and a site where the key's account can run jobs."""

    lab: Lab
    relay: Relay
    broker: Broker
    handle: str
    handle_file: str
    submitted: list[GridJobs] = field(default_factory=list)

    def submit(self, count: int = 2, script: str = "true") -> GridJobs:
        """Jobs over new connections: the gridmanager has one pair for each key file."""
        key_file = f"{self.handle_file}_{next(_numbers)}"
        self.lab.run("factory", ["cp", "--preserve", self.handle_file, key_file])
        options = f"--rgahp-key {key_file} --rgahp-nopass --rgahp-glite ~/{BOSCO_DIR}/glite"
        jobs = submit(self.lab, f"batch slurm {options} pilot@login", count, script)
        self.submitted.append(jobs)
        return jobs

    def start_broker(self) -> None:
        self.broker.daemon.start()
        await_offer(self.relay, self.handle)


@pytest.fixture(scope="module")
def world(lab: Lab) -> Iterator[World]:
    lab.write_file("factory", CONDOR_CONF, _QUICK, FACTORY_USER)
    relay = start_relay(lab)
    broker = start_broker(lab, relay, "frontend", "cms")
    relay.admit(broker)
    site = LabSite("faults", install={"bosco_dir": BOSCO_DIR})
    site.add(lab)
    site.deploy(lab)
    authorise(lab, "login", "pilot", f"restrict,port-forwarding {broker.make_key(KEY)}")
    broker.add_key(KEY, "login", "--burst", "1000")
    handle = broker.handles(KEY)["submit"]
    await_offer(relay, handle)
    made = World(lab, relay, broker, handle, broker.deliver(KEY))
    yield made
    for jobs in made.submitted:
        jobs.remove()
    await_no_gahp(lab)
    site.remove(lab)
    broker.daemon.stop()
    relay.daemon.stop()
    lab.run("factory", ["rm", CONDOR_CONF])
    lab.run("factory", ["condor_reconfig"], user=FACTORY_USER)


@pytest.fixture(scope="module")
def standing(world: World) -> GridJobs:
    """A job that was there before the first fault and runs until it is told to end; its sessions stand all the time."""
    jobs = world.submit(count=1, script=f"until test -e {END}; do sleep 1; done")
    jobs.await_running()
    return jobs


@pytest.fixture(autouse=True)
def _audit_holds(world: World) -> Iterator[None]:
    """Whatever has happened, the audit log is whole at the end; after a test that fails the daemons run again."""
    yield
    for daemon in (world.relay.daemon, world.broker.daemon):
        if not daemon.alive():
            daemon.start()
    world.broker.run("audit", "--verify")


@pytest.mark.usefixtures("standing")
def test_control_without_a_fault(world: World) -> None:
    jobs = world.submit()
    jobs.await_accepted()
    assert jobs.events("026") == 0


@pytest.fixture
def short_deadline(world: World) -> Iterator[None]:
    """The relay gives up a signature after 4 s; what it does then is the same as after the usual 15."""
    path = f"{RELAY_DIR}/relay.conf"
    usual = world.lab.read_file("factory", path)
    _use_conf(world, path, json.dumps({**json.loads(usual), "sign_deadline_s": 4}))
    yield
    _use_conf(world, path, usual)


def _use_conf(world: World, path: str, text: str) -> None:
    world.relay.daemon.stop()
    world.lab.write_file("factory", path, text)
    world.relay.daemon.start()
    _reconnect(world)


def test_broker_is_down_when_the_gahp_starts(world: World) -> None:
    world.broker.daemon.stop()
    jobs = world.submit()
    reason = jobs.await_reason("GWMS-SSH-BROKER")
    assert "broker of cms frontend not connected since" in reason
    assert f"(handle {world.handle})" in reason
    assert "the frontend's administrator starts gwms-ssh-broker" in reason
    jobs.await_known_to_wait()
    world.start_broker()
    jobs.await_accepted()


def test_broker_is_killed_with_a_request_in_its_hands(world: World) -> None:
    """The relay asks the next broker the same: the gridmanager does not even notice."""
    world.broker.daemon.signal("STOP")
    jobs = world.submit()
    await_true(lambda: _waiting_bytes(world) > _REQUEST_BYTES, "a request is with the broker")
    world.broker.daemon.stop("KILL")
    world.start_broker()
    jobs.await_accepted()
    assert jobs.events("026") == 0


def test_many_jobs_while_the_broker_restarts(world: World) -> None:
    jobs = world.submit(count=10)
    for _ in range(3):
        world.broker.daemon.stop("KILL")
        world.start_broker()
    jobs.await_accepted()


def test_relay_is_down_when_the_gahp_starts(world: World) -> None:
    world.relay.daemon.stop()
    jobs = world.submit()
    reason = jobs.await_reason("GWMS-SSH-BROKER")
    assert f"no relay is running on this host (handle {world.handle})" in reason
    assert "start gwms-ssh-relay" in reason
    world.relay.daemon.start()
    _reconnect(world)
    jobs.await_accepted()


@pytest.mark.usefixtures("short_deadline")
def test_hung_broker(world: World) -> None:
    world.broker.daemon.signal("STOP")
    try:
        jobs = world.submit()
        reason = jobs.await_reason("DENY 7")
    finally:
        world.broker.daemon.signal("CONT")
    assert "the broker does not answer" in reason
    assert f"(broker of cms frontend, handle {world.handle})" in reason
    assert "the frontend's administrator" in reason
    jobs.await_accepted()


def test_hung_key_agent(world: World) -> None:
    """What hangs is the ssh-agent that has the key; the broker itself says so, before the relay gives up."""
    agents = world.lab.run("frontend", ["pgrep", "-u", BROKER_USER, "-x", "ssh-agent"]).stdout.split()
    world.lab.run("frontend", ["kill", "-STOP", *agents])
    try:
        jobs = world.submit()
        reason = jobs.await_reason("DENY 18")
    finally:
        world.lab.run("frontend", ["kill", "-CONT", *agents], check=False)
    assert f"the key of {KEY} cannot be used now; the frontend's log says why" in reason
    assert f"(broker of cms frontend, handle {world.handle})" in reason
    assert f"{KEY}: no signature" in world.broker.daemon.log()
    jobs.await_accepted()


@pytest.mark.usefixtures("short_deadline")
def test_link_is_cut_without_a_word(world: World) -> None:
    """A firewall drops everything between frontend and factory: neither end is told."""
    world.lab.run("frontend", ["nft", "-f", "-"], input=_CUT)
    try:
        jobs = world.submit()
        reason = jobs.await_reason("DENY 7")
    finally:
        world.lab.run("frontend", ["nft", "delete", "table", "inet", "cut"])
    assert "the broker does not answer" in reason
    jobs.await_accepted()


def test_full_audit_disk(world: World) -> None:
    """Nothing is signed that cannot be written down."""
    with _small_audit_disk(world):
        _fill(world)
        jobs = world.submit()
        reason = jobs.await_reason("DENY 18")
        assert "the broker cannot write its audit log" in reason
        assert f"(broker of cms frontend, handle {world.handle})" in reason
        world.lab.run("frontend", ["rm", FULL_DISK])
        jobs.await_accepted()
        world.broker.run("audit", "--verify")


def test_link_of_20_ms(world: World) -> None:
    with _forwarded(world, 20):
        jobs = world.submit()
        jobs.await_accepted()
        assert jobs.events("026") == 0
        (row,) = world.relay.status()["brokers"]
        assert row["rtt_ms"] is None or row["rtt_ms"] >= 20


def test_link_of_200_ms_whose_connection_is_killed(world: World) -> None:
    """What carries the link dies under a running request; the relay asks again over the next connection."""
    with _forwarded(world, 200) as forwarder:
        world.broker.daemon.signal("STOP")
        jobs = world.submit()
        await_true(lambda: _waiting_bytes(world) > _REQUEST_BYTES, "a request is with the broker")
        forwarder.stop("KILL")
        forwarder.start()
        world.broker.daemon.signal("CONT")
        jobs.await_accepted()
        assert jobs.events("026") == 0, f"{world.relay.daemon.log()[-3000:]}\n{world.broker.daemon.log()[-3000:]}"


def test_every_job_has_run_once_and_none_was_held(world: World, standing: GridJobs) -> None:
    """Also the one that ran all the time, and has noticed nothing: its sessions need neither broker nor relay."""
    world.lab.run("login", ["touch", END])
    for jobs in world.submitted:
        jobs.await_done()
    assert standing.events("026") == 0


def _waiting_bytes(world: World) -> int:
    """What has come over the broker's link and was not read."""
    lines = world.lab.run("frontend", ["ss", "-tnHp", "state", "established"]).stdout.splitlines()
    pid = f"pid={world.broker.daemon.pid()},"
    return sum(int(line.split()[0]) for line in lines if pid in line)


@contextmanager
def _small_audit_disk(world: World) -> Iterator[None]:
    """The broker's log folder is a file system of its own, and the log begins anew in it."""
    lab, host = world.lab, world.broker.host
    world.broker.daemon.stop()
    options = f"size=64k,mode=750,uid={lab.host(host).account(BROKER_USER).uid}"
    lab.run(host, ["mount", "-t", "tmpfs", "-o", options, "audit", LOGS])
    try:
        world.start_broker()
        yield
    finally:
        world.broker.daemon.stop()
        lab.run(host, ["umount", LOGS])
        world.start_broker()


def _fill(world: World) -> None:
    """Use up the disk, and what is left of the log's last page, until no record goes in any more."""
    lab, host = world.lab, world.broker.host
    lab.run(host, ["dd", "if=/dev/zero", f"of={FULL_DISK}", "bs=1024"], check=False)

    def size() -> int:
        return int(lab.run(host, ["stat", "-c", "%s", f"{LOGS}/audit.jsonl"]).stdout)

    def is_full() -> bool:
        before, lines = size(), world.broker.daemon.log().count("policy reloaded")
        world.broker.daemon.signal("HUP")
        await_true(lambda: world.broker.daemon.log().count("policy reloaded") > lines, "the policy is read again")
        return size() == before

    await_true(is_full, "the log cannot grow any more")


@contextmanager
def _forwarded(world: World, rtt_ms: int) -> Iterator[Daemon]:
    """The broker reaches the relay by way of a forwarder that delays."""
    argv = ["python3", "-m", "tests.lab.delay", "--listen", str(FORWARDED_PORT), "--to", f"factory:{PORT}"]
    forwarder = Daemon(
        world.lab, world.broker.host, BROKER_USER, "delay", [*argv, "--rtt-ms", str(rtt_ms)],
        env={"PYTHONPATH": CHECKOUT_IN_HOST, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    forwarder.start()
    _dial(world, f"127.0.0.1:{FORWARDED_PORT}")
    try:
        yield forwarder
    finally:
        _dial(world, f"factory:{PORT}")
        forwarder.stop()


def _reconnect(world: World) -> None:
    """Have the broker connect now: after some lost connections it would wait up to a minute."""
    world.broker.daemon.stop()
    world.start_broker()


def _dial(world: World, relay: str) -> None:
    """Have the broker reach its factory's relay at another address, and wait until it does."""
    path = f"{BROKER_DIR}/policy.json"
    policy = json.loads(world.lab.read_file(world.broker.host, path))
    policy["factories"]["lab"]["relay"] = relay
    world.broker.daemon.stop()
    world.lab.write_file(world.broker.host, path, json.dumps(policy), f"{BROKER_USER}:{BROKER_USER}", 0o640)
    world.start_broker()
