# SPDX-License-Identifier: Apache-2.0
"""The egress proxies of host `egress`, one of each kind, with the configuration that `gwms-bosco egress proxy` writes.

What systemd would do by the unit beside it is done by hand: account, folders, port, first command. Debian 13 has no
Dante, so microsocks stands for it, with the unit's addresses as a firewall, as it knows no rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from tests.lab import firewall
from tests.lab.daemon import Daemon
from tests.lab.lab import Lab
from tests.lab.operator import USER, gwms_bosco
from tests.lab.pilots import send_tree
from tests.lab.process import wait_for
from tests.lab.settings import CLUSTER, HOSTS, LOGIN_NODES

HOST = "egress"
ADDRESS, SSH_ADDRESS = (link.address for link in HOSTS[HOST].links)
SSH_USER = "tunnel"
EXITS = [link.address for name in LOGIN_NODES for link in HOSTS[name].links if link.bridge != CLUSTER]
"""The login nodes as the egress proxies see them."""
PORTS = {"http-connect": (ADDRESS, 80), "socks5": (ADDRESS, 443), "ssh": (SSH_ADDRESS, 443)}
UNITS = {"http-connect": "gwms-egress-squid", "socks5": "gwms-egress-socks", "ssh": "gwms-egress-sshd"}
CACHE_MB = 100
READY_DEADLINE_S = 20.0
_CONF, _LOG, _CACHE = "/etc/gwms-egress", "/var/log/gwms-egress", "/var/cache/gwms-egress/squid"
_ACCOUNT = "gwms-egress"
_SOCKS_ACCOUNT = "gwms-socks"
"""By which the firewall tells microsocks from squid, on the same address."""
_HOST_KEY = f"{_CONF}/ssh_host_ed25519_key"
_SOCKS = ["microsocks", "-i", ADDRESS, "-p", "443"]


@dataclass(frozen=True)
class Egress:
    """One egress proxy."""

    lab: Lab
    kind: str

    def _unit(self, key: str) -> str:
        text = self.lab.read_file(HOST, f"{_CONF}/{UNITS[self.kind]}.service")
        return next((line[len(key) + 1 :] for line in text.splitlines() if line.startswith(f"{key}=")), "")

    @property
    def daemon(self) -> Daemon:
        if self.kind == "socks5":
            return Daemon(self.lab, HOST, _SOCKS_ACCOUNT, "egress-socks5", _SOCKS)
        return Daemon(self.lab, HOST, self._unit("User"), f"egress-{self.kind}", self._unit("ExecStart").split())

    def start(self) -> None:
        """Start it and wait until it listens; its configuration is there."""
        first = self._unit("ExecStartPre").split()
        if first:
            self.lab.run(HOST, first, user=self._unit("User"))
        address, port = PORTS[self.kind]
        daemon = self.daemon
        daemon.start()
        argv = ["ss", "-Hltn", f"src {address} and sport = :{port}"]
        wait_for(self.kind, lambda: bool(self.lab.run(HOST, argv).stdout), READY_DEADLINE_S, daemon.log)

    def stop(self) -> None:
        """End it with all its connections, as systemd does: TERM, then all that the unit has."""
        self.daemon.stop("KILL" if self.kind == "socks5" else "TERM")
        if self.kind == "ssh":
            self.lab.run(HOST, ["pkill", "-KILL", "-u", SSH_USER], check=False)

    def web_requests(self) -> list[str]:
        """URLs that a squid has delivered."""
        lines = self.lab.read_file(HOST, f"{_LOG}/access.log").splitlines()
        return [words[6] for words in map(str.split, lines) if words[5] == "GET" and words[3].endswith("/200")]


def prepare_egress(lab: Lab) -> list[str]:
    """Do what a site file must know of: accounts, folders, the host key of kind ssh, which is returned."""
    host = lab.host(HOST)
    for account in (_ACCOUNT, _SOCKS_ACCOUNT, SSH_USER):
        how = ["--system", "--user-group", "--home-dir", "/", "--shell", "/usr/sbin/nologin", "--password", "*"]
        host.run(["useradd", *how, account])
    host.make_dirs(_CONF)
    host.make_dirs(_LOG, _CACHE, owner=_ACCOUNT)
    host.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", _HOST_KEY])
    host.run(["chown", SSH_USER, _HOST_KEY])
    # In the place of CAP_NET_BIND_SERVICE.
    host.run(["sysctl", "-q", "-w", "net.ipv4.ip_unprivileged_port_start=80"])
    return [" ".join(host.read_file(f"{_HOST_KEY}.pub").split()[:2])]


def configure_egress(lab: Lab, site: str, kind: str, public_key: Optional[str] = None) -> None:
    """Have gwms-bosco write the configuration for a site, and put it where its README says.

    Args:
        public_key: of the tunnel, for kind ssh.
    """
    folder = f"/home/{USER}/egress-{kind}"
    argv = ["--output", folder, "--force", "--listen", PORTS[kind][0]]
    if kind == "http-connect":
        argv += ["--cache-mb", str(CACHE_MB)]
    if public_key is not None:
        lab.write_file("factory", f"{folder}.pub", public_key, f"{USER}:{USER}")
        argv += ["--public-key", f"{folder}.pub"]
    gwms_bosco(lab, "egress", "proxy", site, *argv)
    send_tree(lab, ("factory", folder), (HOST, _CONF))
    if kind == "socks5":
        text = lab.read_file(HOST, f"{_CONF}/{UNITS[kind]}.service.d/addresses.conf")
        allowed = next(line for line in text.splitlines() if line.startswith("IPAddressAllow="))
        firewall.limit_socks(lab.host(HOST), *PORTS[kind], _SOCKS_ACCOUNT, allowed.partition("=")[2].split(), EXITS)
