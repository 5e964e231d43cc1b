# SPDX-License-Identifier: Apache-2.0
"""Jobs through the real gridmanager and remote_gahp with a handle only: the key stays at the frontend."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab.keyless import (
    BROKER_DIR,
    FACTORY_USER,
    PASSPHRASE,
    Broker,
    Relay,
    authorise,
    await_offer,
    start_broker,
    start_relay,
)
from tests.lab.lab import Lab
from tests.lab.operator import STATE, gwms_bosco, key_of
from tests.lab.search import places_with
from tests.lab.sites import LabSite, run_test
from tests.lab.waiting import await_no_gahp

KEY = "juwels"
_SEED_BYTES = 32
_TELLING_CHARS = 16
_HOLD = "import sys, time; k = open(sys.argv[1]).read(); print(1, flush=True); time.sleep(60)"
VOS = {"cms": "frontend", "icecube": "frontend2"}


@dataclass(frozen=True)
class World:
    """Two VOs with a key each for the same account at the same site.

    Attributes:
        handle_files: VO -> path at the factory of the file that came in place of the private key.
        public_keys: VO -> fingerprint of the key at its broker.
    """

    lab: Lab
    relay: Relay
    brokers: dict[str, Broker]
    site: LabSite
    handle_files: dict[str, str]
    public_keys: dict[str, str]

    def job(self, vo: str, *options: str) -> dict[str, object]:
        """A test job by the handle file of a VO, over a new connection."""
        await_no_gahp(self.lab)
        return run_test(self.lab, self.site.name, *options, key=self.handle_files[vo])

    def accepted(self) -> list[str]:
        """Fingerprints of the keys that the login node has accepted so far, oldest first."""
        log = self.lab.read_file("login", "/var/log/sshd.log")
        return [line.split()[-1] for line in log.splitlines() if "Accepted publickey for" in line]


@pytest.fixture(scope="module")
def world(lab: Lab) -> Iterator[World]:
    relay = start_relay(lab)
    brokers = {vo: start_broker(lab, relay, host, vo) for vo, host in VOS.items()}
    relay.admit(*brokers.values())
    site = LabSite("keyless")
    site.add(lab)
    files, prints = {}, {}
    for vo, broker in brokers.items():
        public = broker.make_key(KEY)
        authorise(lab, "login", "pilot", f"restrict,port-forwarding {public}")
        broker.add_key(KEY, "login", "--maintain")
        await_offer(relay, broker.handles(KEY)["submit"])
        files[vo] = broker.deliver(KEY)
        prints[vo] = json.loads(broker.run("key", "show", KEY, "--json").stdout)["key"]
    yield World(lab, relay, brokers, site, files, prints)
    await_no_gahp(lab)
    site.remove(lab)
    for daemon in (relay.daemon, *(broker.daemon for broker in brokers.values())):
        daemon.stop()


@pytest.fixture(scope="module")
def deployed(world: World) -> World:
    """The bundle, installed with the signatures of one VO's broker while its maintenance is open."""
    broker = world.brokers["cms"]
    broker.run("key", "open", KEY, "--for", "10m")
    world.site.deploy(world.lab, key="broker:cms")
    broker.run("key", "close", KEY)
    return world


def test_nothing_reaches_a_frontend_from_outside(world: World) -> None:
    for address in ("10.77.0.40", "10.77.0.41"):
        for port in ("22", "8620"):
            probe = world.lab.run("factory", ["nc", "-z", "-w", "1", address, port], check=False)
            assert probe.returncode != 0, f"{address}:{port} answers"


def test_closed_maintenance_installs_nothing_and_says_who_opens_it(world: World) -> None:
    refused = gwms_bosco(world.lab, "remote", "deploy", world.site.name, "--key", "broker:icecube", check=False)
    assert refused.returncode == 3
    assert "DENY 20" in refused.stderr
    assert "icecube frontend" in refused.stderr


@pytest.mark.parametrize("vo", VOS)
def test_job_uses_the_key_of_its_own_vo(deployed: World, vo: str) -> None:
    before = len(deployed.accepted())
    result = deployed.job(vo, "--exit-code", "3")
    assert result["passed"], result
    used = set(deployed.accepted()[before:])
    assert used == {deployed.public_keys[vo]}


def test_handle_of_another_vo_is_refused_before_any_connection(deployed: World) -> None:
    """One frontend sends the other's handle, byte for byte; it arrives in the sender's own folder."""
    stolen = deployed.lab.read_file("factory", deployed.handle_files["icecube"])
    path = f"{deployed.brokers['cms'].credentials}/glidein_gfactory/credential_cms_stolen"
    deployed.lab.write_file("factory", path, stolen, f"{FACTORY_USER}:{FACTORY_USER}", 0o600)
    before = len(deployed.accepted())
    gahp = "/usr/libexec/gwms-bosco/gwms_remote_gahp"
    argv = [gahp, "pilot@login", "--rgahp-key", path, "--rgahp-nopass", "blahpd"]
    done = deployed.lab.run("factory", argv, user=FACTORY_USER, check=False)
    assert done.returncode == 1
    assert "DENY 19" in done.stderr
    assert len(deployed.accepted()) == before


def test_operator_tests_and_maintains_with_the_broker_alone(deployed: World) -> None:
    broker = deployed.brokers["cms"]
    folder = f"{STATE}/handles/cms"
    block = {**broker.conf_block(), "credential_paths": [broker.credentials, folder]}
    deployed.relay.write_conf([block, deployed.brokers["icecube"].conf_block()])
    await_no_gahp(deployed.lab)
    result = run_test(deployed.lab, deployed.site.name, key="broker:cms")
    assert result["passed"], result
    assert result["deployed"] is None  # maintenance is closed
    broker.run("key", "open", KEY, "--for", "10m")
    for verb in (("probe", "--no-job"), ("verify",), ("versions",)):
        gwms_bosco(deployed.lab, "remote", verb[0], deployed.site.name, "--key", "broker:cms", *verb[1:])
    broker.run("key", "close", KEY)


def _secrets_of(private_openssh: str) -> list[bytes]:
    """What shows that a private ed25519 key has been somewhere: its seed, raw and as the text of its file.

    Source: PROTOCOL.key of OpenSSH: the private half is a string of 64 bytes, the seed and then the public key.
    """
    lines = private_openssh.splitlines()[1:-1]
    blob = base64.b64decode("".join(lines))
    mark = b"\x00\x00\x00\x40"
    at = blob.rindex(mark) + len(mark)
    # Characters of the file that depend on nothing but the seed, as far as they stand on one line.
    begin, end = -(-at // 3) * 4, (at + _SEED_BYTES) // 3 * 4
    pieces, position = [], 0
    for line in lines:
        piece = line[max(0, begin - position) : max(0, end - position)]
        pieces += [piece.encode()] if len(piece) >= _TELLING_CHARS else []
        position += len(line)
    assert pieces
    return [blob[at : at + _SEED_BYTES], *pieces]


def test_no_byte_of_the_private_key_is_at_the_factory(deployed: World) -> None:
    broker, lab = deployed.brokers["cms"], deployed.lab
    copy = f"{BROKER_DIR}/plain"
    lab.run(broker.host, ["cp", "-p", f"{BROKER_DIR}/{KEY}", copy])
    lab.run(broker.host, ["ssh-keygen", "-q", "-p", "-P", PASSPHRASE, "-N", "", "-f", copy], user="gwmsbroker")
    private = lab.read_file(broker.host, copy)
    lab.run(broker.host, ["rm", copy])
    patterns = _secrets_of(private)
    await_no_gahp(lab)
    job = lab.popen(
        "factory",
        ["gwms-bosco", "remote", "test", deployed.site.name, "--key", deployed.handle_files["cms"], "--run-s", "8"],
        user=FACTORY_USER,
    )
    found: list[str] = []
    try:
        while job.poll() is None:
            found += places_with(lab, "factory", patterns)
    finally:
        out, _ = job.communicate(timeout=360)
    assert job.returncode == 0, out
    assert found == []

    # The same search finds the key where it is: on the disk in key_pair mode, and in a process that has read it.
    lab.write_file("factory", key_of("canary"), private, f"{FACTORY_USER}:{FACTORY_USER}", 0o600)
    argv = ["python3", "-c", _HOLD, key_of("canary")]
    holder = lab.popen("factory", argv, user=FACTORY_USER, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "1\n"
        places = places_with(lab, "factory", patterns)
    finally:
        lab.run("factory", ["pkill", "-f", key_of("canary")], check=False)
        holder.wait(10)
        lab.run("factory", ["rm", key_of("canary")])
    assert any(place.startswith("file ") for place in places)
    assert any(place.endswith("python3") for place in places)
