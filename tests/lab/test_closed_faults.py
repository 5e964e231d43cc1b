# SPDX-License-Identifier: Apache-2.0
"""What breaks at a closed site while a payload runs: its result arrives, and nothing is left behind.

A payload that keeps its connection to the pool ends as if nothing had been. One that loses it works on and is found
again, but HTCondor's shadow then takes no output of it (HTCondor 23.0 and newer, see docs/closed-sites.md): it runs
again from the beginning, and its log says why.

Every fault has a pilot of its own, since the CPU of such a payload stays taken for minutes. Faults that only one
worker node feels come two at a time: until the alias moves, each node reaches one of the two login nodes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pytest

from tests.lab.closed_site import ClosedSite
from tests.lab.factory_pilots import FactoryPilot
from tests.lab.payloads import Payload
from tests.lab.pilots import PilotEntry
from tests.lab.settings import CLUSTER, HOSTS, LOGIN_NODES, WORKERS
from tests.lab.waiting import await_true

KIND = "http-connect"
LIFE_S, IDLE_S = 600, 400
FIRST, SECOND = LOGIN_NODES
NODE, OTHER = WORKERS
STARTED_DEADLINE_S = 40.0
AT_WORK_DEADLINE_S = 60.0
RESULT_DEADLINE_S = 120.0
LOSS_S = 30.0
# Both directions, everything: the batch system's packets too.
_LOSS = "table inet loss {\n chain in { type filter hook input priority -5; iifname eth0 drop; }\n chain out {\
 type filter hook output priority -5; oifname eth0 drop; }\n}\n"
_SHUT = "table inet shut {{\n chain out {{ type filter hook output priority -5; ip daddr {address} tcp dport 22 reject\
 with tcp reset; }}\n}}\n"


def restart_egress(closed: ClosedSite) -> None:
    """The tunnel stays, all connections through it end."""
    closed.egress(KIND).stop()
    closed.egress(KIND).start()


def restart_sshd(closed: ClosedSite) -> None:
    """As when the login node reboots: the factory's connections end too."""
    closed.stop_sshd(FIRST)
    closed.start_sshd(FIRST)


def lose_packets(closed: ClosedSite) -> None:
    """Shorter than the tunnel's keep-alive allows: connections live through it."""
    closed.lab.run(OTHER, ["nft", "-f", "-"], input=_LOSS)
    asked = closed.home.asked_to_go(lose_packets.__name__)
    time.sleep(LOSS_S)
    # One may have been on its way.
    assert closed.home.asked_to_go(lose_packets.__name__) <= asked + 1, "packets pass"
    closed.lab.run(OTHER, ["nft", "delete", "table", "inet", "loss"])


def kill_tunnel(closed: ClosedSite) -> None:
    """Its supervisor starts another."""
    closed.lab.run(OTHER, ["pkill", "-KILL", "-u", "pilot", "-x", "ssh"])


def move_alias(closed: ClosedSite) -> None:
    """The first login node goes away for good."""
    closed.lab.run(NODE, ["nft", "delete", "table", "inet", "shut"])
    closed.stop_sshd(FIRST)
    closed.point_alias(SECOND)


Fault = Callable[[ClosedSite], None]
# Fault -> the node that feels it. Those of a round come at the same time; the last one leaves the site changed.
ROUNDS: list[dict[Fault, str]] = [
    {restart_egress: NODE},
    {restart_sshd: NODE, lose_packets: OTHER},
    {move_alias: NODE, kill_tunnel: OTHER},
]
FAULTS = [fault for faults in ROUNDS for fault in faults]


@dataclass(frozen=True)
class Outcome:
    """What has become of a payload, `seconds` after the fault began."""

    payload: Payload
    exit_code: int
    seconds: float

    @property
    def reruns(self) -> int:
        return self.payload.events("001") - 1


@pytest.fixture(scope="module")
def pilots(closed: ClosedSite) -> Mapping[Fault, FactoryPilot]:
    """A pilot for each fault, on the node that it is meant for."""
    entry = closed.bring(KIND)[KIND]
    for node, login in ((NODE, SECOND), (OTHER, FIRST)):
        closed.lab.run(node, ["nft", "-f", "-"], input=_SHUT.format(address=cluster_address(login)))
    found: dict[Fault, FactoryPilot] = {}
    for node in WORKERS:
        found.update(submit_on(closed, entry, node))
    for pilot in found.values():
        pilot.await_joined()
    return found


def submit_on(closed: ClosedSite, entry: PilotEntry, node: str) -> dict[Fault, FactoryPilot]:
    """Submit the pilots of a node while the batch system uses no other."""
    (closing,) = (name for name in WORKERS if name != node)
    mine = [fault for faults in ROUNDS for fault, where in faults.items() if where == node]
    update = ["scontrol", "update", f"NodeName={closing}"]
    closed.lab.run(FIRST, [*update, "State=DRAIN", "Reason=lab"])
    found = {fault: closed.submit(entry, fault.__name__, LIFE_S, IDLE_S) for fault in mine}
    argv = ["squeue", "-h", "-t", "R", "-w", node]

    def running() -> bool:
        return len(closed.lab.run(FIRST, argv).stdout.splitlines()) == len(mine)

    await_true(running, f"pilots on {node} started", STARTED_DEADLINE_S)
    closed.lab.run(FIRST, [*update, "State=RESUME"])
    return found


def cluster_address(host: str) -> str:
    return next(link.address for link in HOSTS[host].links if link.bridge == CLUSTER)


@pytest.fixture(scope="module")
def outcomes(closed: ClosedSite, pilots: Mapping[Fault, FactoryPilot]) -> Mapping[Fault, Outcome]:
    """Everything breaks."""
    found: dict[Fault, Outcome] = {}
    with ThreadPoolExecutor(len(WORKERS)) as pool:
        for faults in ROUNDS:
            found.update(zip(faults, pool.map(lambda fault: suffer(closed, pilots[fault], fault), faults)))
    return found


def suffer(closed: ClosedSite, pilot: FactoryPilot, fault: Fault) -> Outcome:
    """Let a payload be at work through the tunnel before and after a fault, and wait for its result."""
    name = fault.__name__
    payload = closed.submit_payload(pilot, name, waits=True)
    await_true(lambda: closed.home.asked_to_go(name) > 0, f"{name}: payload is at work", AT_WORK_DEADLINE_S)
    began = time.monotonic()
    fault(closed)
    asked = closed.home.asked_to_go(name)
    await_true(lambda: closed.home.asked_to_go(name) > asked, f"{name}: payload is at work again", RESULT_DEADLINE_S)
    closed.home.let_go(name)
    return Outcome(payload, payload.exit_code(RESULT_DEADLINE_S), time.monotonic() - began)


@pytest.mark.parametrize("fault", FAULTS)
def test_result_arrives(closed: ClosedSite, outcomes: Mapping[Fault, Outcome], fault: Fault) -> None:
    """In the first run or, when the pool has given that one up, in another, for which there is a reason in the log."""
    outcome = outcomes[fault]
    payload = outcome.payload
    print(f"{fault.__name__}: result {outcome.seconds:.0f} s after the fault began, {outcome.reruns} times run again")
    assert outcome.exit_code == 42, payload.stderr()
    assert payload.file("output") == "written\n"
    assert closed.home.stored(fault.__name__) == "input\n"
    # 007 and 021: what the shadow or the starter could not do; 024: why the job was not found again.
    assert outcome.reruns <= sum(payload.events(number) for number in ("007", "021", "024")), payload.log()
    assert payload.events("012") == 0, payload.log()


def test_short_loss_of_packets_costs_nothing(outcomes: Mapping[Fault, Outcome]) -> None:
    outcome = outcomes[lose_packets]
    assert outcome.reruns == 0, outcome.payload.log()


@pytest.mark.usefixtures("outcomes")
def test_nothing_is_left(closed: ClosedSite, pilots: Mapping[Fault, FactoryPilot]) -> None:
    """Pilots are told to end; the factory hears of it through the login node that the alias now means."""
    for node in WORKERS:
        closed.lab.run(node, ["pkill", "-QUIT", "-u", "pilot", "-x", "condor_master"])
    for pilot in pilots.values():
        await_true(partial(ended_well, pilot), "pilot's job ended", RESULT_DEADLINE_S)
        assert "=== cvmfs_setup: 0" in pilot.output()
    closed.assert_nothing_left()


def ended_well(pilot: FactoryPilot) -> bool:
    return "Normal termination (return value 0)" in pilot.log()
