# SPDX-License-Identifier: Apache-2.0
"""What breaks at a closed site while a payload runs: its result arrives, and nothing is left behind.

One pilot lives through all of it, its payloads one after the other: each is at work through the tunnel when the fault
comes, and ends after it, or runs again and its log says why.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.lab.closed_site import ClosedSite
from tests.lab.factory_pilots import FactoryPilot
from tests.lab.payloads import Payload
from tests.lab.settings import LOGIN_NODES
from tests.lab.waiting import await_true

KIND = "http-connect"
LIFE_S, IDLE_S = 600, 120
FIRST, SECOND = LOGIN_NODES
AT_WORK_DEADLINE_S = 60.0
RESULT_DEADLINE_S = 120.0
LOSS_S = 30.0
# Both directions, everything: the batch system's packets too.
_LOSS = "table inet loss {\n chain in { type filter hook input priority -5; iifname eth0 drop; }\n chain out {\
 type filter hook output priority -5; oifname eth0 drop; }\n}\n"


@pytest.fixture(scope="module")
def pilot(closed: ClosedSite) -> FactoryPilot:
    """A pilot whose tunnel goes through the first login node."""
    entry = closed.bring(KIND)[KIND]
    closed.stop_sshd(SECOND)
    submitted = closed.submit(entry, "faults", LIFE_S, IDLE_S)
    submitted.await_joined()
    closed.start_sshd(SECOND)
    return submitted


def restart_sshd(closed: ClosedSite, _node: str) -> None:
    """As when the login node reboots: the factory's connections end too."""
    closed.stop_sshd(FIRST)
    closed.start_sshd(FIRST)


def restart_egress(closed: ClosedSite, _node: str) -> None:
    closed.egress(KIND).stop()
    closed.egress(KIND).start()


def kill_tunnel(closed: ClosedSite, node: str) -> None:
    closed.lab.run(node, ["pkill", "-KILL", "-u", "pilot", "-x", "ssh"])


def lose_packets(closed: ClosedSite, node: str) -> None:
    closed.lab.run(node, ["nft", "-f", "-"], input=_LOSS)
    time.sleep(LOSS_S)
    closed.lab.run(node, ["nft", "delete", "table", "inet", "loss"])


def move_alias(closed: ClosedSite, _node: str) -> None:
    """The first login node goes away for good."""
    closed.stop_sshd(FIRST)
    closed.point_alias(SECOND)


# The last one leaves the site changed.
@pytest.mark.parametrize("fault", [restart_sshd, restart_egress, kill_tunnel, lose_packets, move_alias])
def test_result_arrives(closed: ClosedSite, pilot: FactoryPilot, fault: Callable[[ClosedSite, str], None]) -> None:
    name = fault.__name__
    payload = closed.submit_payload(pilot, name, waits=True)
    await_true(lambda: closed.home.asked_to_go(name) > 0, "payload is at work", AT_WORK_DEADLINE_S)
    node = (pilot.ad("Machine") or {})["Machine"]
    began = time.monotonic()
    fault(closed, node)
    asked = closed.home.asked_to_go(name)
    await_true(lambda: closed.home.asked_to_go(name) > asked, "payload is at work again", RESULT_DEADLINE_S)
    # One that ends before its shadow has found it again runs once more from the beginning.
    await_true(lambda: is_followed(payload), "the pool has the payload back", RESULT_DEADLINE_S)
    closed.home.let_go(name)
    assert payload.exit_code(RESULT_DEADLINE_S) == 42, payload.stderr()
    print(f"{name}: result {time.monotonic() - began:.0f} s after the fault began")
    assert payload.file("output") == "written\n"
    assert closed.home.stored(name) == "input\n"
    assert_rescheduled_with_reason(payload)


def is_followed(payload: Payload) -> bool:
    """Tell whether the pool has found a payload again as often as it has lost it (022), there (023) or anew (024)."""
    return payload.events("022") <= payload.events("023") + payload.events("024")


def assert_rescheduled_with_reason(payload: Payload) -> None:
    """Event 024 says why a job could not be found again, and 022 what broke."""
    for _ in range(payload.events("004")):
        assert payload.events("022") or payload.events("024"), payload.log()


def test_nothing_is_left(closed: ClosedSite, pilot: FactoryPilot) -> None:
    """The pilot is told to end; the factory hears of it through the login node that the alias now means."""
    node = (pilot.ad("Machine") or {})["Machine"]
    closed.lab.run(node, ["pkill", "-QUIT", "-u", "pilot", "-x", "condor_master"])
    await_true(lambda: "Normal termination (return value 0)" in pilot.log(), "pilot's job ended", RESULT_DEADLINE_S)
    assert "=== cvmfs_setup: 0" in pilot.output()
    closed.assert_nothing_left()
