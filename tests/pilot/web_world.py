# SPDX-License-Identifier: Apache-2.0
"""A node with web servers around it, and pilots that look for a web proxy there."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Optional

from tests.free_port import free_port
from tests.pilot import web_servers
from tests.pilot.harness import Pilot
from tests.pilot.node import Node
from tests.pilot.standins import standin_frontier, standin_stratum1
from tests.pilot.web_servers import FaultyProxy, PacServer

REPOSITORY = "cms.cern.ch"


class World:
    """Servers on the loopback, which end with `stack`, and the pilot that is to find its proxy among them."""

    def __init__(self, node: Node, folder: Path, stack: ExitStack) -> None:
        self.node = node
        self.folder = folder
        self._stack = stack
        self.stratum1 = standin_stratum1.Server(("127.0.0.1", 0), [REPOSITORY])
        self.frontier = standin_frontier.Server(("127.0.0.1", 0))
        stack.enter_context(web_servers.serving(self.stratum1))
        stack.enter_context(web_servers.serving(self.frontier))

    def proxy(self, fault: str = "", address: str = "127.0.0.1") -> FaultyProxy:
        """One more proxy."""
        server = FaultyProxy(fault, address)
        self._stack.enter_context(web_servers.serving(server))
        return server

    def pac(self, **files: str) -> PacServer:
        """A server of PAC files, by name."""
        server = PacServer({f"/{name}": text.encode() for name, text in files.items()})
        self._stack.enter_context(web_servers.serving(server))
        return server

    def squid(self) -> str:
        """A real squid's URL."""
        return self._stack.enter_context(web_servers.squid(self.folder / "squid"))

    def dead(self) -> str:
        """A URL where nobody listens."""
        return f"http://127.0.0.1:{free_port()}"

    def pilot(self, env: Optional[dict[str, str]] = None, **config: str) -> Pilot:
        """A pilot whose entry has these attributes."""
        stratum1, frontier = self.stratum1.server_port, self.frontier.server_port
        config = {
            "GWMS_BOSCO_WEB_PROXY_TEST_CVMFS": f"http://127.0.0.1:{stratum1}/cvmfs/{REPOSITORY}/.cvmfspublished",
            "GWMS_BOSCO_WEB_PROXY_TEST_FRONTIER": f"http://127.0.0.1:{frontier}/{standin_frontier.SERVLET}",
            "GWMS_BOSCO_WEB_PROXY_MAX_LATENCY_MS": "3000",
            **config,
        }
        return Pilot(self.node, self.folder / "pilot", config, env)


def conf(pilot: Pilot) -> dict[str, str]:
    """web_proxy.conf."""
    lines = (pilot.folder / "gwms_bosco" / "web_proxy.conf").read_text().splitlines()
    return {line.partition("=")[0]: line.partition("=")[2] for line in lines}
