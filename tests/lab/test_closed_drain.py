# SPDX-License-Identifier: Apache-2.0
"""A closed site's tunnel stays down: pilots take no more payloads, what runs may finish, and the site's log says why.

Two pilots of a node share the tunnel. One runs a payload, the other waits for one and ends when it has waited for too
long. While the tunnel is down the pool hears of neither, so their startds are asked on the node.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import pytest

from tests.lab.closed_site import ClosedSite, ended_well
from tests.lab.closed_startd import Startd, provide_condor_status
from tests.lab.factory_pilots import FactoryPilot
from tests.lab.payloads import Payload, submit
from tests.lab.settings import CLUSTER, HOSTS, LOGIN_NODES, WORKERS
from tests.lab.waiting import await_true

KIND = "http-connect"
NODE = WORKERS[0]
MAX_DOWN_S = 30
"""The shortest that a site file may say."""
CHECK_S = 3
LIFE_S, BUSY_IDLE_S = 1200, 900
WAITS_S = 150
"""The idle pilot's: from its start until after it has drained."""
AT_WORK_DEADLINE_S = 30.0
DRAIN_DEADLINE_S = MAX_DOWN_S + 20.0
END_DEADLINE_S = 90.0
UP_DEADLINE_S = 60.0
_ADDRESSES = ", ".join(link.address for name in LOGIN_NODES for link in HOSTS[name].links if link.bridge == CLUSTER)
_SHUT = (
    f"table inet shut {{\n chain out {{ type filter hook output priority -5; ip daddr {{ {_ADDRESSES} }} tcp dport 22\
 reject with tcp reset; }}\n}}\n"
)
_PAYLOAD = """\
touch began
until [ -e end ]; do sleep 0.5; done
exit 42
"""
"""Needs no network. Its folder is the execute folder's only one."""


@dataclass(frozen=True)
class Drained:
    """Both pilots, since their tunnel has been down for longer than the limit.

    Attributes:
        slots: START, the result of the check and its reason, for each slot of both.
    """

    busy: FactoryPilot
    idle: FactoryPilot
    payload: Payload
    startds: dict[str, Startd]
    slots: dict[str, list[list[str]]]


@pytest.fixture(scope="module")
def drained(closed: ClosedSite) -> Drained:
    entry = closed.bring(KIND, change=limit, period_s=CHECK_S)[KIND]
    provide_condor_status(closed.lab)
    with closed.only_on(NODE, 2):
        busy = closed.submit(entry, "busy", LIFE_S, BUSY_IDLE_S)
        idle = closed.submit(entry, "idle", LIFE_S, WAITS_S)
    for pilot in (busy, idle):
        pilot.await_joined()
    startds = {pilot.name: Startd(closed.lab, NODE, pilot.name) for pilot in (busy, idle)}
    assert all(starts(startd, "true") for startd in startds.values())
    payload = submit(closed.lab, busy, _PAYLOAD)
    payload.await_running()
    await_true(lambda: in_execute(closed, startds["busy"], "began"), "payload is at work", AT_WORK_DEADLINE_S)
    closed.lab.run(NODE, ["nft", "-f", "-"], input=_SHUT)
    for startd in startds.values():
        await_true(partial(starts, startd, "false"), f"{startd.name} drains", DRAIN_DEADLINE_S)
    words = ("Start", "GLIDEIN_PS_GWMS_BOSCO_EGRESS_OK", "GLIDEIN_PS_GWMS_BOSCO_EGRESS_REASON")
    return Drained(busy, idle, payload, startds, {name: one.slots(*words) for name, one in startds.items()})


def limit(site: dict[str, Any]) -> None:
    site["network"]["tunnel"]["max_down_s"] = MAX_DOWN_S


def starts(startd: Startd, word: str) -> bool:
    """Tell whether START is that for all of its slots."""
    return {start for (start,) in startd.slots("Start")} == {word}


def in_execute(closed: ClosedSite, startd: Startd, name: str) -> bool:
    """Tell whether the payload has made that file."""
    script = 'cd "$1"/execute/dir_* && [ -e "$2" ]'
    return closed.lab.run(NODE, ["sh", "-c", script, "sh", startd.folder(), name], check=False).returncode == 0


def test_startds_take_no_payload_and_know_why(drained: Drained) -> None:
    assert set(drained.slots) == {"busy", "idle"}
    assert len(drained.slots["busy"]) == 2, "the slot of the payload has gone"
    for start, ok, reason in chain(*drained.slots.values()):
        assert (start, ok) == ("false", "false")
        assert reason.startswith("the tunnel is down for "), reason
        assert reason.endswith("Connection refused"), reason


def test_operator_reads_the_reason_from_the_login_node(closed: ClosedSite, drained: Drained) -> None:
    lines = [line for line in closed.logs(KIND).splitlines() if "BOSCO-EGRESS-24" in line]
    assert len(lines) == len(drained.startds), lines
    for line in lines:
        assert "BOSCO-EGRESS-24 takes no more payloads: the tunnel is down for " in line
        assert line.endswith("Connection refused")


def test_payload_that_runs_may_finish(closed: ClosedSite, drained: Drained) -> None:
    startd = drained.startds["busy"]
    assert in_execute(closed, startd, "began"), startd.log("StarterLog.slot1_1")
    closed.lab.run(NODE, ["sh", "-c", 'cd "$1"/execute/dir_* && touch end', "sh", startd.folder()])
    await_true(lambda: "status=42" in startd.log("StarterLog.slot1_1"), "payload's end", END_DEADLINE_S)
    assert drained.payload.events("004") == 0, drained.payload.log()


def test_pilot_without_a_payload_ends(drained: Drained) -> None:
    """The tunnel is still down: the factory hears of it through the batch system."""
    await_true(lambda: ended_well(drained.idle), "pilot's job ended", END_DEADLINE_S)
    assert starts(drained.startds["busy"], "false")


def test_pilot_takes_payloads_again_when_the_tunnel_is_back(closed: ClosedSite, drained: Drained) -> None:
    """Before it ends as it is told to, and leaves nothing."""
    closed.lab.run(NODE, ["nft", "delete", "table", "inet", "shut"])
    await_true(lambda: starts(drained.startds["busy"], "true"), "START is true again", UP_DEADLINE_S)
    await_true(lambda: "the tunnel is up again" in closed.logs(KIND), "it is said", UP_DEADLINE_S)
    drained.payload.remove()
    closed.end_pilots(NODE)
    await_true(lambda: ended_well(drained.busy), "pilot's job ended", END_DEADLINE_S)
    closed.assert_nothing_left()
