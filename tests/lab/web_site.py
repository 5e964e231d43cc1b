# SPDX-License-Identifier: Apache-2.0
"""A site with a squid: the servers its pilots ask for, squids at the site and outside, and entries that name them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Optional

from tests.lab.daemon import Daemon
from tests.lab.lab import Lab
from tests.lab.operator import USER, add_site, gwms_bosco
from tests.lab.pilot_site import DISTRIBUTION, RENDERED, REPOSITORY
from tests.lab.pilots import PilotEntry, bring_entry
from tests.lab.process import wait_for
from tests.lab.settings import BASE_HOSTS, CHECKOUT_IN_HOST
from tests.lab.siteconf import FRONTIER
from tests.lab.sites import LabSite
from tests.lab.squid import Squid
from tests.pilot.standins.standin_frontier import encode_query

OUTSIDE = "outside"
_OUTSIDE_ADDRESS = BASE_HOSTS[OUTSIDE].links[0].address
_LOGIN_INSIDE = BASE_HOSTS["login"].links[1].address
_STANDINS = f"{CHECKOUT_IN_HOST}/tests/pilot/standins"
STRATUM1 = f"http://{_OUTSIDE_ADDRESS}:8000"
MANIFEST = f"{STRATUM1}/cvmfs/{REPOSITORY}/.cvmfspublished"
_SEVEN = encode_query("SELECT 7 FROM DUAL")
QUERY = f"{FRONTIER}/Frontier/type=frontier_request:1:DEFAULT&encoding=BLOBzip5&p1={_SEVEN}"
CHECK_PERIOD_S = 2
CROWD_PORT = 3129
_READY_DEADLINE_S = 20.0


@dataclass(frozen=True)
class WebSite:
    """All of it.

    Attributes:
        local: at the site, named first.
        backup: outside, on the backup list.
        crowd: at the site too, for an entry whose pilots all start at once.
    """

    local: Squid
    backup: Squid
    crowd: Squid

    def restore(self) -> None:
        """Have all squids run, none of them slow."""
        for squid in (self.local, self.backup, self.crowd):
            if not squid.daemon.alive():
                squid.start()
            squid.slow(0)


def start_web(lab: Lab) -> WebSite:
    """Start servers and squids; the Global Pool's way out of the cluster is open."""
    start_server(lab, "stratum1", "8000", REPOSITORY)
    start_server(lab, "frontier", "8001")
    web = WebSite(
        Squid(lab, "login", "site-squid", _LOGIN_INSIDE),
        Squid(lab, OUTSIDE, "backup-squid", _OUTSIDE_ADDRESS),
        Squid(lab, "login", "crowd-squid", _LOGIN_INSIDE, CROWD_PORT),
    )
    web.restore()
    return web


def start_server(lab: Lab, name: str, *words: str) -> None:
    """Start one of the stand-ins for servers on host `outside`, and wait until it listens."""
    argv = ["python3", "-B", f"{_STANDINS}/standin_{name}.py", *words]
    server = Daemon(lab, OUTSIDE, USER, name, argv)
    server.start()
    wait_for(name, lambda: "ready" in server.log(), _READY_DEADLINE_S, server.log)


def web_proxies(main: Squid, requests_per_s: int, backup: Optional[Squid] = None, **more: Any) -> dict[str, Any]:
    """A `web_proxies` block."""
    capacity = {"requests_per_s": requests_per_s}
    block: dict[str, Any] = {
        "proxies": [{"url": main.url, "capacity": capacity}],
        "test": {"cvmfs": MANIFEST, "frontier": FRONTIER},
        **more,
    }
    if backup is not None:
        block["backup"] = [{"url": backup.url, "capacity": capacity}]
    return block


def bring_web_entry(lab: Lab, name: str, runtime: dict[str, Any], glideins: int) -> PilotEntry:
    """Render the entry of a site with that runtime block, and bring it to the nodes."""
    limits = {"per_entry": {"glideins": glideins, "idle": 1, "held": 1}}
    site = json.loads(LabSite(name, entry={"limits": limits}).text(lab))
    add_site(lab, name, json.dumps({**site, "runtime": runtime}))
    lab.run("factory", ["mkdir", "-p", RENDERED], user=USER)
    gwms_bosco(lab, "entry", "render", "--output", RENDERED, name)
    return bring_entry(lab, f"{RENDERED}/50-{name}.xml", f"Lab_{name}", CHECK_PERIOD_S)


def cvmfs() -> dict[str, Any]:
    """A `cvmfs` block with the stand-in distribution."""
    return {"repositories": [REPOSITORY], "cvmfsexec": {"path": DISTRIBUTION}}
