# SPDX-License-Identifier: Apache-2.0
"""The network half of a closed site, for tests of the tunnel, its key and the egress proxies: no image, no CVMFS."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Optional

from tests.lab.closed_egress import EXITS, PORTS, SSH_USER, Egress, configure_egress, prepare_egress
from tests.lab.closed_home import ADDRESS, FORWARDS
from tests.lab.lab import Lab
from tests.lab.operator import add_site, gwms_bosco, key_of, prepare_factory
from tests.lab.pilots import ACCOUNT
from tests.lab.settings import CLOSED_PROFILE, CLUSTER, HOSTS
from tests.lab.sites import LabSite

LOGIN = next(link.address for link in HOSTS["login"].links if link.bridge == CLUSTER)
"""The login node as workers reach it."""
WORKER_NET = "10.77.1.0/24"


@contextmanager
def closed_lab() -> Iterator[Lab]:
    """A fresh lab of the closed profile with a prepared factory."""
    lab = Lab(f"gwmspt{os.getpid()}closed", CLOSED_PROFILE)
    lab.up()
    try:
        prepare_factory(lab)
        yield lab
    finally:
        lab.down()


@dataclass(frozen=True)
class TunnelSite:
    """A site whose bundle and key are on the login node.

    Attributes:
        bundle: folder of the job wrapper, egress.conf and known_hosts, as all nodes see it.
        key: path of the tunnel's private key there.
        login_line: what stands in authorized_keys of the login node.
        egress_line: what is for that of an egress proxy of kind ssh; None for the other kinds.
    """

    name: str
    bundle: str
    key: str
    login_line: str
    egress_line: Optional[str]

    @property
    def options(self) -> str:
        """What limits the key on the login node."""
        return self.login_line.partition(" ssh-ed25519 ")[0]


def bring_tunnel_site(
    lab: Lab, kind: str, forwards: Sequence[str], host_keys: Optional[Sequence[str]] = None
) -> TunnelSite:
    """Deploy the bundle of a site, and start its egress proxy with the configuration made for it.

    Args:
        kind: http-connect, socks5 or ssh.
        forwards: names in `closed_home.FORWARDS`.
        host_keys: what `prepare_egress` has said; None when this is the lab's first site.

    Raises:
        LabError: a step failed.
    """
    name = f"tunnel-{kind}"
    host_keys = prepare_egress(lab) if host_keys is None else host_keys
    _add(lab, kind, forwards, host_keys)
    gwms_bosco(lab, "remote", "ssh-config")
    said = gwms_bosco(lab, "remote", "deploy", name, "--key", key_of(ACCOUNT), "--json").stdout
    key = json.loads(said)["site_key"]
    start_egress(lab, kind, forwards, host_keys, key["public_key"])
    folder = f"{lab.host('login').account(ACCOUNT).home}/bosco-{name}"
    return TunnelSite(name, f"{folder}/glite/egress", f"{folder}/egress/id_ed25519", key["line"], key["egress_line"])


def start_egress(lab: Lab, kind: str, forwards: Sequence[str], host_keys: Sequence[str] = (), key: str = "") -> None:
    """Start an egress proxy of another kind for the same forwards; `key` is that of kind ssh."""
    _add(lab, kind, forwards, host_keys)
    configure_egress(lab, f"tunnel-{kind}", kind, key if kind == "ssh" else None)
    Egress(lab, kind).start()


def _add(lab: Lab, kind: str, forwards: Sequence[str], host_keys: Sequence[str]) -> None:
    name = f"tunnel-{kind}"
    site = json.loads(LabSite(name).text(lab))
    add_site(lab, name, json.dumps({**site, "network": _network(kind, forwards, host_keys)}))


def _network(kind: str, forwards: Sequence[str], host_keys: Sequence[str]) -> dict[str, Any]:
    host, port = PORTS[kind]
    egress: dict[str, Any] = {"kind": kind, "host": host, "port": port}
    if kind == "ssh":
        egress.update(user=SSH_USER, host_keys=list(host_keys))
    return {
        "login_hosts": [LOGIN],
        "workers": [WORKER_NET],
        "exit_addresses": EXITS,
        "tunnel": {"auth": "site-key", "accept_key_on_site": True},
        "egress": egress,
        "forwards": [{"name": name, "host": ADDRESS, "port": FORWARDS[name]} for name in forwards],
    }
