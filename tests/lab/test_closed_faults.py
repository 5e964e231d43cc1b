# SPDX-License-Identifier: Apache-2.0
"""What breaks at a closed site while a payload runs: its result arrives, and nothing is left behind.

A payload that keeps its connection to the pool ends as if nothing had been. One that loses it works on and is found
again, but HTCondor's shadow then takes no output of it (HTCondor 23.0 and newer, see docs/closed-sites.md): it runs
again from the beginning, and its log says why.

The CPU of such a payload stays taken for minutes, so pilots have more of them than payloads. There is one pilot, and so
one tunnel, for each kind of egress proxy on a node. Until the alias moves, each node reaches one of the login nodes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.lab.closed_site import ALIAS, KINDS, ClosedSite, ended_well
from tests.lab.factory_pilots import FactoryPilot
from tests.lab.payloads import Payload
from tests.lab.settings import CLUSTER, HOSTS, LOGIN_NODES, WORKERS
from tests.lab.waiting import await_true

LIFE_S, IDLE_S = 1800, 1500
CPUS = 8
ALIAS_KIND = "http-connect"
"""The kind whose tunnels log in to the alias."""
FIRST, SECOND = LOGIN_NODES
NODE, OTHER = WORKERS
AT_WORK_DEADLINE_S = 60.0
RESULT_DEADLINE_S = 120.0
LOSS_S = 30.0
# Both directions, everything: the batch system's packets too.
_LOSS = "table inet loss {\n chain in { type filter hook input priority -5; iifname eth0 drop; }\n chain out {\
 type filter hook output priority -5; oifname eth0 drop; }\n}\n"
_SHUT = "table inet shut {{\n chain out {{ type filter hook output priority -5; ip daddr {address} tcp dport 22 reject\
 with tcp reset; }}\n}}\n"


@dataclass(frozen=True)
class Fault:
    """What is done, and the pilot whose payload feels it: its node, and the kind of its egress proxy."""

    do: Callable[[ClosedSite, Fault, FactoryPilot], None]
    node: str
    kind: str = ALIAS_KIND

    @property
    def name(self) -> str:
        return f"{self.do.__name__}-{self.kind}"

    @property
    def place(self) -> tuple[str, str]:
        return self.node, self.kind


def restart_egress(closed: ClosedSite, fault: Fault, _: FactoryPilot) -> None:
    """All connections through it end, and with kind ssh the tunnel."""
    closed.egress(fault.kind).stop()
    closed.egress(fault.kind).start()


def restart_sshd(closed: ClosedSite, _fault: Fault, _pilot: FactoryPilot) -> None:
    """As when the login node reboots: the factory's connections end too."""
    closed.stop_sshd(FIRST)
    closed.start_sshd(FIRST)


def lose_packets(closed: ClosedSite, fault: Fault, _: FactoryPilot) -> None:
    """Shorter than the tunnel's keep-alive allows: connections live through it."""
    closed.lab.run(fault.node, ["nft", "-f", "-"], input=_LOSS)
    asked = closed.home.asked_to_go(fault.name)
    time.sleep(LOSS_S)
    # One may have been on its way.
    assert closed.home.asked_to_go(fault.name) <= asked + 1, "packets pass"
    closed.lab.run(fault.node, ["nft", "delete", "table", "inet", "loss"])


def kill_tunnel(closed: ClosedSite, fault: Fault, pilot: FactoryPilot) -> None:
    """Its supervisor starts another."""
    kill_written(closed, fault.node, f"{tunnel_of(pilot)}/ssh")


def kill_supervisor(closed: ClosedSite, fault: Fault, pilot: FactoryPilot) -> None:
    """No other pilot's could take over: the job wrapper has another begin."""
    kill_written(closed, fault.node, f"{tunnel_of(pilot)}/users/*")


def tunnel_of(pilot: FactoryPilot) -> str:
    """The folder of its tunnel on the node."""
    ad = pilot.ad("GWMS_BOSCO_EGRESS_DIR")
    assert ad is not None
    return str(ad["GWMS_BOSCO_EGRESS_DIR"])


def kill_written(closed: ClosedSite, node: str, pattern: str) -> None:
    """Kill the one process whose number stands in the files of that name."""
    (line,) = closed.lab.run(node, ["sh", "-c", f"cat {pattern}"]).stdout.splitlines()
    closed.lab.run(node, ["kill", "-KILL", line.split()[0]])


def move_alias(closed: ClosedSite, fault: Fault, _: FactoryPilot) -> None:
    """The first login node goes away for good. The tunnel knows the alias only."""
    closed.lab.run(fault.node, ["nft", "delete", "table", "inet", "shut"])
    closed.stop_sshd(FIRST)
    closed.point_alias(SECOND)


# Those of a round come at the same time, none to another's tunnel or egress proxy. That of the alias leaves the site
# changed.
ROUNDS = [
    [
        *(Fault(restart_egress, NODE), Fault(restart_egress, OTHER, "socks5")),
        *(Fault(kill_tunnel, OTHER, "ssh"), Fault(kill_supervisor, NODE, "ssh")),
    ],
    [Fault(restart_sshd, NODE), Fault(lose_packets, OTHER)],
    [
        *(Fault(move_alias, NODE), Fault(restart_egress, OTHER, "ssh")),
        *(Fault(kill_tunnel, OTHER), Fault(kill_tunnel, OTHER, "socks5")),
    ],
]
FAULTS = [fault for faults in ROUNDS for fault in faults]
Pilots = Mapping[tuple[str, str], FactoryPilot]


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
def pilots(closed: ClosedSite) -> Pilots:
    """(node, kind) -> a pilot."""
    entries = closed.bring(*KINDS, change=suit)
    closed.point_alias(SECOND, [OTHER])
    for node, login in ((NODE, SECOND), (OTHER, FIRST)):
        closed.lab.run(node, ["nft", "-f", "-"], input=_SHUT.format(address=cluster_address(login)))
    found: dict[tuple[str, str], FactoryPilot] = {}
    for node in WORKERS:
        kinds = dict.fromkeys(fault.kind for fault in FAULTS if fault.node == node)
        with closed.only_on(node, len(kinds)):
            for kind in kinds:
                found[node, kind] = closed.submit(entries[kind], f"{node}-{kind}", LIFE_S, IDLE_S)
    for pilot in found.values():
        pilot.await_joined()
    return found


def suit(site: dict[str, Any]) -> None:
    """Give its pilots CPUs, and those of one kind the alias in the place of the login nodes' addresses."""
    site["entries"][0]["cpus"] = CPUS
    if site["network"]["egress"]["kind"] == ALIAS_KIND:
        site["network"]["login_hosts"] = [ALIAS]


def cluster_address(host: str) -> str:
    return next(link.address for link in HOSTS[host].links if link.bridge == CLUSTER)


@pytest.fixture(scope="module")
def outcomes(closed: ClosedSite, pilots: Pilots) -> Mapping[Fault, Outcome]:
    """Everything breaks."""
    found: dict[Fault, Outcome] = {}
    with ThreadPoolExecutor(max(map(len, ROUNDS))) as pool:
        for faults in ROUNDS:
            found.update(zip(faults, pool.map(lambda fault: suffer(closed, pilots[fault.place], fault), faults)))
    return found


def suffer(closed: ClosedSite, pilot: FactoryPilot, fault: Fault) -> Outcome:
    """Let a payload be at work through the tunnel before and after a fault, and wait for its result."""
    name = fault.name
    payload = closed.submit_payload(pilot, name, waits=True)
    await_true(lambda: closed.home.asked_to_go(name) > 0, f"{name}: payload is at work", AT_WORK_DEADLINE_S)
    began = time.monotonic()
    fault.do(closed, fault, pilot)
    asked = closed.home.asked_to_go(name)
    again = f"{name}: payload is at work again"
    await_true(
        lambda: closed.home.asked_to_go(name) > asked,
        again,
        RESULT_DEADLINE_S,
        lambda: payload.log() + closed.logs(fault.kind),
    )
    closed.home.let_go(name)
    return Outcome(payload, payload.exit_code(RESULT_DEADLINE_S), time.monotonic() - began)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_result_arrives(closed: ClosedSite, outcomes: Mapping[Fault, Outcome], fault: Fault) -> None:
    """In the first run or, when the pool has given that one up, in another, for which there is a reason in the log."""
    outcome = outcomes[fault]
    payload = outcome.payload
    print(f"{fault.name}: result {outcome.seconds:.0f} s after the fault began, {outcome.reruns} times run again")
    assert outcome.exit_code == 42, payload.stderr()
    assert payload.file("output") == "written\n"
    assert closed.home.stored(fault.name) == "input\n"
    # 007 and 021: what the shadow or the starter could not do; 024: why the job was not found again.
    assert outcome.reruns <= sum(payload.events(number) for number in ("007", "021", "024")), payload.log()
    assert payload.events("012") == 0, payload.log()


def test_short_loss_of_packets_costs_nothing(outcomes: Mapping[Fault, Outcome]) -> None:
    (outcome,) = (outcome for fault, outcome in outcomes.items() if fault.do is lose_packets)
    assert outcome.reruns == 0, outcome.payload.log()


@pytest.mark.usefixtures("outcomes")
def test_log_names_the_supervisor_that_was_killed(closed: ClosedSite) -> None:
    """A killed ssh has no other supervisor begin."""
    said = closed.logs("ssh")
    assert said.count("the supervisor of the tunnel was killed, another begins") == 1, said


@pytest.mark.usefixtures("outcomes")
def test_nothing_is_left(closed: ClosedSite, pilots: Pilots) -> None:
    """Pilots are told to end; the factory hears of it through the login node that the alias now means."""
    for node in WORKERS:
        closed.end_pilots(node)
    for pilot in pilots.values():
        await_true(partial(ended_well, pilot), "pilot's job ended", RESULT_DEADLINE_S)
        assert "=== cvmfs_setup: 0" in pilot.output()
    closed.assert_nothing_left()
